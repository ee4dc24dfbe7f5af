import { Text } from "@mantine/core";
import type { TFunction } from "i18next";
import { useTranslation } from "react-i18next";
import { DataTable } from "@/components/DataTable";
import { bytes, compact, percent, real } from "@/lib/format";
import type { Measure, Unit, Value } from "./measures";

export function shown(unit: Unit, value: number): string {
  switch (unit) {
    case "share":
      return percent(value);
    case "count":
      return compact(value);
    case "bytes":
      return bytes(value);
    case "milliseconds":
      return `${real(value)} ms`;
    case "ratio":
      return `${value.toFixed(2)} ×`;
    case "points":
      return signed(100 * value);
    default:
      return real(value);
  }
}

export function metricName(t: TFunction, name: string): string {
  return t(`metricName.${name}` as "metricName.accuracy", { defaultValue: name.replaceAll("_", " ") });
}

/** The measure's name in words, its holes filled. */
export function measureName(t: TFunction, { name, of }: Measure): string {
  const words = {
    ...of,
    metric: metricName(t, String(of.metric ?? "")),
    split: of.split ? t(`split.${of.split}` as "split.test") : "",
    kind: of.kind ? t(`perturbation.${of.kind}` as "perturbation.typos", { defaultValue: String(of.kind) }) : "",
  };
  return t(`report.measures.${name}` as "report.measures.quality", words);
}

/** How the sparse model differs: measured, or worked out from both values. */
function change(t: TFunction, measure: Measure): { text: string; interval: string } {
  const { dense, sparse, difference, unit, differenceUnit } = measure;
  if (difference) return { text: points(t, measure, difference.value), interval: spanOf(difference, differenceUnit) };
  if (!dense || !sparse || measure.name === "sparsity") return { text: "", interval: "" };
  if (unit === "share" || unit === "number")
    return { text: points(t, measure, sparse.value - dense.value), interval: "" };
  return {
    text: dense.value === 0 ? "" : `${signed((100 * (sparse.value - dense.value)) / dense.value)} %`,
    interval: "",
  };
}

function points(t: TFunction, { unit }: Measure, difference: number): string {
  return unit === "share"
    ? t("report.points", { value: signed(100 * difference) })
    : `${difference < 0 ? "−" : "+"}${real(Math.abs(difference))}`;
}

/** The interval of a value, in words; empty where there is none. */
function spanOf({ interval }: Value, unit: Unit): string {
  const whole = (value: number) => shown(unit, value).replaceAll(" ", "\u00a0"); // no line begins with a unit
  return interval ? `${whole(interval[0])} … ${whole(interval[1])}` : "";
}

/** Both models side by side; an interval stands below what it belongs to. */
export function MeasuresTable({ measures, title }: { measures: Measure[]; title: string }) {
  const { t } = useTranslation();
  return (
    <DataTable
      label={title}
      data-testid="report"
      rows={measures}
      columns={[
        { name: t("report.measure"), isRowHead: true, cell: (measure) => measureName(t, measure) },
        {
          name: t("report.dense"),
          className: "number",
          cell: ({ unit, dense }) => <Figure unit={unit} value={dense} />,
        },
        {
          name: t("report.sparse"),
          className: "number",
          strong: true,
          cell: ({ unit, sparse }) => <Figure unit={unit} value={sparse} />,
        },
        {
          name: t("report.change"),
          className: "number",
          cell: (measure) => {
            const { text, interval } = change(t, measure);
            return (
              <>
                {text}
                <Interval text={interval} />
              </>
            );
          },
        },
      ]}
      keyOf={(measure) => measureName(t, measure)}
      minWidth={300}
    />
  );
}

/** A value, and below it the interval that it has. */
export function Figure({ value, unit = "number" }: { value: Value | null | undefined; unit?: Unit }) {
  if (!value) return "–";
  return (
    <>
      {shown(unit, value.value)}
      <Interval text={spanOf(value, unit)} />
    </>
  );
}

function Interval({ text }: { text: string }) {
  return text ? (
    <Text size="xs" c="dimmed" fw={400} className="interval">
      {text}
    </Text>
  ) : null;
}

function signed(value: number): string {
  return `${value > 0 ? "+" : value < 0 ? "−" : "±"}${Math.abs(value).toFixed(1)}`;
}

import { Table, Text } from "@mantine/core";
import type { TFunction } from "i18next";
import { useTranslation } from "react-i18next";
import { bytes, compact, percent, real } from "@/lib/format";
import type { Measure, Unit, Value } from "./read";

type Translate = TFunction;

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

export function metricName(t: Translate, name: string): string {
  return t(`metricName.${name}` as "metricName.accuracy", { defaultValue: name.replaceAll("_", " ") });
}

/** The measure's name in words, its holes filled. */
export function measureName(t: Translate, { name, of }: Measure): string {
  const words = {
    ...of,
    metric: metricName(t, String(of.metric ?? "")),
    split: of.split ? t(`split.${of.split}` as "split.test") : "",
    kind: of.kind ? t(`perturbation.${of.kind}` as "perturbation.typos", { defaultValue: String(of.kind) }) : "",
  };
  return t(`report.measures.${name}` as "report.measures.quality", words);
}

/** How the sparse model differs: measured, or worked out from both values. */
function change(t: Translate, measure: Measure): { text: string; interval: string } {
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

function points(t: Translate, { unit }: Measure, difference: number): string {
  return unit === "share"
    ? t("report.points", { value: signed(100 * difference) })
    : `${difference < 0 ? "−" : "+"}${real(Math.abs(difference))}`;
}

/** The interval of a value, in words; empty where there is none. */
export function spanOf({ interval }: Value, unit: Unit): string {
  const whole = (value: number) => shown(unit, value).replaceAll(" ", "\u00a0"); // no line begins with a unit
  return interval ? `${whole(interval[0])} … ${whole(interval[1])}` : "";
}

/** Both models side by side; an interval stands below what it belongs to. */
export function MeasuresTable({ measures, title }: { measures: Measure[]; title: string }) {
  const { t } = useTranslation();
  return (
    <Table.ScrollContainer minWidth={300}>
      <Table aria-label={title} data-testid="report">
        <Table.Thead>
          <Table.Tr>
            <Table.Th>{t("report.measure")}</Table.Th>
            <Table.Th className="number">{t("report.dense")}</Table.Th>
            <Table.Th className="number">{t("report.sparse")}</Table.Th>
            <Table.Th className="number">{t("report.change")}</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {measures.map((measure) => {
            const name = measureName(t, measure);
            const changed = change(t, measure);
            return (
              <Table.Tr key={name}>
                <Table.Th scope="row" fw={400}>
                  {name}
                </Table.Th>
                <Figure unit={measure.unit} value={measure.dense} />
                <Figure unit={measure.unit} value={measure.sparse} strong />
                <Table.Td className="number">
                  {changed.text}
                  <Interval text={changed.interval} />
                </Table.Td>
              </Table.Tr>
            );
          })}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  );
}

function Figure({ value, unit, strong = false }: { value: Value | null; unit: Unit; strong?: boolean }) {
  return (
    <Table.Td className="number" fw={strong ? 600 : undefined}>
      {value ? shown(unit, value.value) : "–"}
      {value && <Interval text={spanOf(value, unit)} />}
    </Table.Td>
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

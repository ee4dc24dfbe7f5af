import { Alert, List, SimpleGrid, Table } from "@mantine/core";
import { useCallback } from "react";
import { useTranslation } from "react-i18next";
import { Picture } from "@/components/Picture";
import { Section } from "@/components/Section";
import { Stats } from "@/components/Stat";
import { type Colors, drawHistogram } from "@/lib/draw";
import { count, percent } from "@/lib/format";
import { type FullReport, splitsOf } from "./report";

/** The outcome of validation in numbers, and the warnings it gave. */
export function ReportSummary({ report }: { report: FullReport }) {
  const { t } = useTranslation();
  const splits = splitsOf(report);
  const sum = (measure: "rows" | "duplicates") =>
    splits.reduce((total, name) => total + (report.splits[name]?.[measure] ?? 0), 0);
  const overlap = report.overlap.reduce((total, { rows }) => total + rows, 0);
  return (
    <Section title={t("datasets.report")}>
      <Stats
        cols={5}
        figures={[
          { label: t("datasets.rows"), value: count(sum("rows")) },
          { label: t("datasets.classes"), value: count(report.splits.train?.classes.length) },
          { label: t("datasets.majority"), value: percent(report.majority_share) },
          { label: t("datasets.duplicates"), value: count(sum("duplicates")) },
          { label: t("datasets.overlap"), value: count(overlap), note: t("datasets.overlapNote") },
        ]}
      />
      {report.warnings.length > 0 && (
        <Alert color="yellow" title={t("datasets.warnings")}>
          <List size="sm">
            {report.warnings.map((warning) => (
              <List.Item key={`${warning.code} ${warning.message}`}>{warning.message}</List.Item>
            ))}
          </List>
        </Alert>
      )}
      <Table.ScrollContainer minWidth={520}>
        <Table aria-label={t("datasets.lengths")}>
          <Table.Thead>
            <Table.Tr>
              <Table.Th>{t("datasets.split")}</Table.Th>
              <Table.Th className="number">{t("datasets.rows")}</Table.Th>
              <Table.Th className="number">{t("datasets.duplicates")}</Table.Th>
              <Table.Th className="number">{t("datasets.shortest")}</Table.Th>
              <Table.Th className="number">{t("datasets.median")}</Table.Th>
              <Table.Th className="number">{t("datasets.p95")}</Table.Th>
              <Table.Th className="number">{t("datasets.longest")}</Table.Th>
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {splits.map((name) => {
              const split = report.splits[name];
              return (
                split && (
                  <Table.Tr key={name}>
                    <Table.Td>{t(`split.${name}`)}</Table.Td>
                    <Table.Td className="number">{count(split.rows)}</Table.Td>
                    <Table.Td className="number">{count(split.duplicates)}</Table.Td>
                    <Table.Td className="number">{count(split.text_length.min)}</Table.Td>
                    <Table.Td className="number">{count(split.text_length.p50)}</Table.Td>
                    <Table.Td className="number">{count(split.text_length.p95)}</Table.Td>
                    <Table.Td className="number">{count(split.text_length.max)}</Table.Td>
                  </Table.Tr>
                )
              );
            })}
          </Table.Tbody>
        </Table>
      </Table.ScrollContainer>
      <Lengths report={report} />
    </Section>
  );
}

/** How long the texts are: rows in equal stretches of characters, for each split. */
function Lengths({ report }: { report: FullReport }) {
  const { t } = useTranslation();
  return (
    <SimpleGrid cols={{ base: 1, xs: 3 }}>
      {splitsOf(report).map((name) => {
        const length = report.splits[name]?.text_length;
        return (
          length?.histogram && (
            <LengthPicture key={name} title={t(`split.${name}`)} histogram={length.histogram} median={length.p50} />
          )
        );
      })}
    </SimpleGrid>
  );
}

interface LengthProps {
  title: string;
  histogram: { end: number; counts: number[] };
  median: number;
}

function LengthPicture({ title, histogram: { end, counts }, median }: LengthProps) {
  const { t } = useTranslation();
  const draw = useCallback(
    (pen: CanvasRenderingContext2D, width: number, height: number, colors: Colors) =>
      drawHistogram(
        pen,
        { x: 0, y: 4, width, height: height - 4 },
        { edges: [0, end], all: counts, kept: counts },
        colors,
        (rows) => rows,
      ),
    [end, counts],
  );
  const point = useCallback(
    (x: number, _: number, width: number) => {
      const bin = Math.floor((x / width) * counts.length);
      const rows = counts[bin];
      if (rows === undefined) return "";
      const edge = (at: number) => count(Math.round((at * end) / counts.length));
      return t("datasets.lengthBin", { low: edge(bin), high: edge(bin + 1), rows: count(rows) });
    },
    [end, counts, t],
  );
  return (
    <Picture
      title={t("datasets.lengthOf", { split: title })}
      alt={t("datasets.lengthAlt", { median: count(median), end: count(end) })}
      height={110}
      draw={draw}
      point={point}
    />
  );
}

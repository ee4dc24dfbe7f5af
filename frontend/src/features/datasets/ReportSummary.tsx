import { Alert, List, Table } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { Section } from "@/components/Section";
import { Stats } from "@/components/Stat";
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
    </Section>
  );
}

import { Button, Progress, SegmentedControl, Table } from "@mantine/core";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Section } from "@/components/Section";
import { count, percent } from "@/lib/format";
import { type FullReport, splitsOf } from "./report";

const FIRST = 20;

/** Rows per class as bars; the numbers stand beside them, so the chart reads as a table too. */
export function ClassBalance({ report }: { report: FullReport }) {
  const { t } = useTranslation();
  const splits = splitsOf(report);
  const [split, setSplit] = useState(splits[0] ?? "train");
  const [all, setAll] = useState(false);
  const classes = report.splits[split]?.classes ?? [];
  const most = Math.max(1, ...classes.map((entry) => entry.count));
  return (
    <Section
      title={t("datasets.balance")}
      note={t("datasets.balanceNote", { count: classes.length, share: percent(report.majority_share) })}
      actions={
        splits.length > 1 && (
          <SegmentedControl
            size="xs"
            aria-label={t("datasets.split")}
            data={splits.map((value) => ({ value, label: t(`split.${value}`) }))}
            value={split}
            onChange={(value) => setSplit(splits.find((known) => known === value) ?? split)}
          />
        )
      }
    >
      <Table verticalSpacing={3} aria-label={t("datasets.balance")}>
        <Table.Thead>
          <Table.Tr>
            <Table.Th>{t("datasets.class")}</Table.Th>
            <Table.Th w="50%" visibleFrom="xs" aria-hidden="true" />
            <Table.Th className="number">{t("datasets.rows")}</Table.Th>
            <Table.Th className="number">{t("datasets.shareOf")}</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {(all ? classes : classes.slice(0, FIRST)).map((entry) => (
            <Table.Tr key={entry.label}>
              <Table.Td className="breakable">{entry.label}</Table.Td>
              <Table.Td visibleFrom="xs" aria-hidden="true">
                <Progress value={(100 * entry.count) / most} size="md" radius="xs" />
              </Table.Td>
              <Table.Td className="number">{count(entry.count)}</Table.Td>
              <Table.Td className="number">{percent(entry.share)}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
      {!all && classes.length > FIRST && (
        <Button variant="subtle" size="xs" onClick={() => setAll(true)}>
          {t("datasets.allClasses", { count: classes.length })}
        </Button>
      )}
    </Section>
  );
}

import { Button, SegmentedControl } from "@mantine/core";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { barColumn, DataTable } from "@/components/DataTable";
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
      <DataTable
        label={t("datasets.balance")}
        rows={all ? classes : classes.slice(0, FIRST)}
        columns={[
          { name: t("datasets.class"), className: "breakable", cell: ({ label }) => label },
          barColumn((entry: { count: number }) => entry.count / most),
          { name: t("datasets.rows"), className: "number", cell: (entry) => count(entry.count) },
          { name: t("datasets.shareOf"), className: "number", cell: ({ share }) => percent(share) },
        ]}
        keyOf={({ label }) => label}
        verticalSpacing={3}
      />
      {!all && classes.length > FIRST && (
        <Button variant="subtle" size="xs" onClick={() => setAll(true)}>
          {t("datasets.allClasses", { count: classes.length })}
        </Button>
      )}
    </Section>
  );
}

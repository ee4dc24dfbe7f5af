import { Anchor, Button, Text } from "@mantine/core";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { DataTable } from "@/components/DataTable";
import { Section } from "@/components/Section";
import { count, percent } from "@/lib/format";
import type { WrongRows } from "./read";

const FIRST = 20;

/** The rows that the sparse model got wrong, and what the dense one said of them. */
export function WrongRowsSection({ wrong, dataset }: { wrong: WrongRows; dataset: string }) {
  const { t } = useTranslation();
  const [all, setAll] = useState(false);
  const found = wrong.rows ?? [];
  const rows = all ? found : found.slice(0, FIRST);
  return (
    <Section
      title={t("report.wrong")}
      note={t("report.wrongNote", { count: wrong.count, split: t(`split.${wrong.split}` as "split.test") })}
      actions={
        <Anchor component={Link} to={`${dataset}?split=${wrong.split}`} size="sm">
          {t("report.toRows")}
        </Anchor>
      }
    >
      <DataTable
        label={t("report.wrong")}
        rows={rows}
        columns={[
          { name: t("report.row"), className: "number", cell: ({ row }) => count(row) },
          {
            name: t("report.text"),
            className: "breakable",
            cell: ({ text, text_pair: pair }) => (
              <>
                <div className="clamp">{text}</div>
                {pair && (
                  <Text size="xs" c="dimmed" className="clamp">
                    {pair}
                  </Text>
                )}
              </>
            ),
          },
          { name: t("report.gold"), className: "breakable", props: { miw: 150 }, cell: ({ gold }) => gold },
          {
            name: t("report.predicted"),
            className: "breakable",
            props: { miw: 150 },
            cell: ({ predicted, probability }) => (
              <>
                {predicted}
                {probability != null && (
                  <Text size="xs" c="dimmed" className="figure">
                    {percent(probability)}
                  </Text>
                )}
              </>
            ),
          },
          { name: t("report.denseSaid"), className: "breakable", props: { miw: 150 }, cell: ({ dense }) => dense },
        ]}
        keyOf={({ row }, at) => row ?? at}
        minWidth={760}
        striped
      />
      {!all && found.length > FIRST && (
        <Button variant="subtle" size="xs" onClick={() => setAll(true)}>
          {t("report.allWrong", { count: found.length })}
        </Button>
      )}
    </Section>
  );
}

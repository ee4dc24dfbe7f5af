import { Group, SegmentedControl, Select } from "@mantine/core";
import { keepPreviousData } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { api } from "@/api/client";
import type { Dataset } from "@/api/types";
import { DataTable } from "@/components/DataTable";
import { Listed, PAGE_SIZE, useListAddress } from "@/components/listing";
import { Section } from "@/components/Section";
import { count } from "@/lib/format";
import { SPLITS } from "./report";

/** The canonical rows that a job will train on, page by page. */
export function Rows({ dataset }: { dataset: Dataset }) {
  const { t } = useTranslation();
  const address = useListAddress();
  const { get, set, page } = address;
  const splits = SPLITS.filter((name) => dataset.splits.some((entry) => entry.split === name));
  const split = splits.find((name) => name === get("split")) ?? splits[0] ?? "train";
  const label = get("label") || undefined;
  const query = api.useQuery(
    "get",
    "/api/v1/datasets/{dataset_id}/rows",
    { params: { path: { dataset_id: dataset.id }, query: { split, label, page, page_size: PAGE_SIZE } } },
    { placeholderData: keepPreviousData },
  );
  return (
    <Section title={t("datasets.rowsTitle")}>
      <Group>
        <SegmentedControl
          size="xs"
          aria-label={t("datasets.split")}
          data={splits.map((value) => ({ value, label: t(`split.${value}`) }))}
          value={split}
          onChange={(value) => set("split", value)}
        />
        <Select
          size="xs"
          aria-label={t("datasets.class")}
          placeholder={t("datasets.anyClass")}
          data={dataset.labels}
          value={label ?? null}
          onChange={(value) => set("label", value ?? "")}
          clearable
          searchable
        />
      </Group>
      <Listed address={address} query={query} filtered lines={8}>
        {(rows) => (
          <DataTable
            label={t("datasets.rowsTitle")}
            rows={rows}
            columns={[
              { name: t("datasets.row"), className: "number", props: { w: 70 }, cell: ({ row }) => count(row) },
              {
                name: t("datasets.roles.text"),
                className: "breakable",
                cell: ({ text }) => <div className="clamp">{text}</div>,
              },
              dataset.text_pair && {
                name: t("datasets.roles.pair"),
                className: "breakable",
                cell: ({ text_pair }) => <div className="clamp">{text_pair}</div>,
              },
              { name: t("datasets.class"), cell: ({ label }) => label },
            ]}
            keyOf={({ row }) => row}
            minWidth={420}
            striped
          />
        )}
      </Listed>
    </Section>
  );
}

import { Group, SegmentedControl, Select, Table } from "@mantine/core";
import { keepPreviousData } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { api } from "@/api/client";
import type { Dataset } from "@/api/types";
import { Loaded } from "@/components/Loaded";
import { PAGE_SIZE, Pager, useListAddress } from "@/components/listing";
import { Section } from "@/components/Section";
import { count } from "@/lib/format";
import { SPLITS } from "./report";

/** The canonical rows that a job will train on, page by page. */
export function Rows({ dataset }: { dataset: Dataset }) {
  const { t } = useTranslation();
  const { get, set, page } = useListAddress();
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
      <Loaded query={query} lines={8}>
        {(list) => (
          <>
            <Table.ScrollContainer minWidth={420}>
              <Table striped aria-label={t("datasets.rowsTitle")}>
                <Table.Thead>
                  <Table.Tr>
                    <Table.Th className="number" w={70}>
                      {t("datasets.row")}
                    </Table.Th>
                    <Table.Th>{t("datasets.roles.text")}</Table.Th>
                    {dataset.text_pair && <Table.Th>{t("datasets.roles.pair")}</Table.Th>}
                    <Table.Th>{t("datasets.class")}</Table.Th>
                  </Table.Tr>
                </Table.Thead>
                <Table.Tbody>
                  {list.results.map((row) => (
                    <Table.Tr key={row.row}>
                      <Table.Td className="number">{count(row.row)}</Table.Td>
                      <Table.Td className="breakable">
                        <div className="clamp">{row.text}</div>
                      </Table.Td>
                      {dataset.text_pair && (
                        <Table.Td className="breakable">
                          <div className="clamp">{row.text_pair}</div>
                        </Table.Td>
                      )}
                      <Table.Td>{row.label}</Table.Td>
                    </Table.Tr>
                  ))}
                </Table.Tbody>
              </Table>
            </Table.ScrollContainer>
            <Pager count={list.count} page={page} onPage={(next) => set("page", String(next))} />
          </>
        )}
      </Loaded>
    </Section>
  );
}

import { useTranslation } from "react-i18next";
import { api } from "@/api/client";
import { DataTable } from "@/components/DataTable";
import { Loaded } from "@/components/Loaded";
import { Section } from "@/components/Section";
import { bytes, count } from "@/lib/format";

/** How much this installation takes. */
export function Limits() {
  const { t } = useTranslation();
  const query = api.useQuery("get", "/api/v1/limits", undefined, { staleTime: Number.POSITIVE_INFINITY });
  return (
    <Section title={t("limits.title")} note={t("limits.note")}>
      <Loaded query={query}>
        {(limits) => {
          const rows: [name: string, value: string][] = [
            [t("limits.upload_bytes"), bytes(limits.upload_bytes)],
            [t("limits.upload_hours"), t("limits.hours", { count: limits.upload_hours })],
            [t("limits.uploads"), count(limits.uploads)],
            [t("limits.dataset_rows"), count(limits.dataset_rows)],
            [t("limits.dataset_columns"), count(limits.dataset_columns)],
            [t("limits.dataset_cell_characters"), count(limits.dataset_cell_characters)],
            [t("limits.dataset_classes"), count(limits.dataset_classes)],
            [t("limits.base_model_bytes"), bytes(limits.base_model_bytes)],
            [t("limits.public_models"), limits.public_models ? t("common.yes") : t("common.no")],
          ];
          return (
            <DataTable
              label={t("limits.title")}
              rows={rows}
              columns={[
                { name: "limit", head: null, isRowHead: true, cell: ([name]) => name },
                { name: "value", head: null, className: "number", cell: ([, value]) => value },
              ]}
              keyOf={([name]) => name}
            />
          );
        }}
      </Loaded>
    </Section>
  );
}

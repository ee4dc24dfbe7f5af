import { useTranslation } from "react-i18next";
import type { Dataset } from "@/api/types";
import { DataTable } from "@/components/DataTable";
import { Section } from "@/components/Section";

/** What is wrong with the files, each as file:line:column, as compilers say it. */
export function ErrorTable({ dataset }: { dataset: Dataset }) {
  const { t } = useTranslation();
  return (
    <Section title={t("datasets.errorsTitle")} note={t("datasets.errorsNote")}>
      <DataTable
        data-testid="errors"
        rows={dataset.errors}
        columns={[
          {
            name: t("datasets.where"),
            className: "mono breakable",
            cell: ({ file, line, column }) =>
              [file, line, column].filter((part) => part !== null && part !== "").join(":"),
          },
          { name: t("datasets.what"), cell: ({ message }) => message },
        ]}
        keyOf={(_, at) => at}
        minWidth={280}
        striped
      />
    </Section>
  );
}

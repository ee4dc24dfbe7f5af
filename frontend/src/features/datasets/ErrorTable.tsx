import { Table } from "@mantine/core";
import { useTranslation } from "react-i18next";
import type { Dataset } from "@/api/types";
import { Section } from "@/components/Section";

/** What is wrong with the files, each as file:line:column, as compilers say it. */
export function ErrorTable({ dataset }: { dataset: Dataset }) {
  const { t } = useTranslation();
  return (
    <Section title={t("datasets.errorsTitle")} note={t("datasets.errorsNote")}>
      <Table.ScrollContainer minWidth={280}>
        <Table striped data-testid="errors">
          <Table.Thead>
            <Table.Tr>
              <Table.Th>{t("datasets.where")}</Table.Th>
              <Table.Th>{t("datasets.what")}</Table.Th>
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {dataset.errors.map((error, number) => (
              // biome-ignore lint/suspicious/noArrayIndexKey: the list is fixed, and two entries may be equal
              <Table.Tr key={number}>
                <Table.Td className="mono breakable">
                  {[error.file, error.line, error.column].filter((part) => part !== null && part !== "").join(":")}
                </Table.Td>
                <Table.Td>{error.message}</Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      </Table.ScrollContainer>
    </Section>
  );
}

import { Badge, Group, Text } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { DataTable } from "@/components/DataTable";

interface Props {
  columns: string[];
  rows: (string | null)[][];
  roles: { text: string; pair: string; label: string };
}

/** The first rows as they will be read; the chosen columns are marked with their role. */
export function PreviewTable({ columns, rows, roles }: Props) {
  const { t } = useTranslation();
  const role = (column: string) => {
    if (column === roles.text) return t("datasets.roles.text");
    if (column === roles.label) return t("datasets.roles.label");
    return column === roles.pair ? t("datasets.roles.pair") : null;
  };
  return (
    <DataTable
      label={t("datasets.previewTable")}
      rows={rows}
      columns={columns.map((column, at) => ({
        name: column,
        head: (
          <Group gap={6} wrap="nowrap">
            {column}
            {role(column) && (
              <Badge size="xs" tt="none" variant="filled" style={{ flexShrink: 0 }}>
                {role(column)}
              </Badge>
            )}
          </Group>
        ),
        cell: (row: Props["rows"][number]) => (
          <Text size="sm" lineClamp={2} className="breakable">
            {row[at] ?? ""}
          </Text>
        ),
      }))}
      keyOf={(_, at) => at}
      minWidth={Math.min(900, 160 * columns.length)}
      striped
    />
  );
}

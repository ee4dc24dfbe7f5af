import { Badge, Group, Table, Text } from "@mantine/core";
import { useTranslation } from "react-i18next";

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
    <Table.ScrollContainer minWidth={Math.min(900, 160 * columns.length)}>
      <Table striped aria-label={t("datasets.previewTable")}>
        <Table.Thead>
          <Table.Tr>
            {columns.map((column) => (
              <Table.Th key={column}>
                <Group gap={6} wrap="nowrap">
                  {column}
                  {role(column) && (
                    <Badge size="xs" tt="none" variant="filled" style={{ flexShrink: 0 }}>
                      {role(column)}
                    </Badge>
                  )}
                </Group>
              </Table.Th>
            ))}
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {rows.map((row, number) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: rows have no identity but their place
            <Table.Tr key={number}>
              {columns.map((column, at) => (
                <Table.Td key={column}>
                  <Text size="sm" lineClamp={2} className="breakable">
                    {row[at] ?? ""}
                  </Text>
                </Table.Td>
              ))}
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  );
}

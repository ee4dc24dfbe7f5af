import { Anchor, Button, Table, Text } from "@mantine/core";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { Section } from "@/components/Section";
import { count, percent } from "@/lib/format";
import type { WrongRows } from "./read";

const FIRST = 20;

/** The rows that the sparse model got wrong, and what the dense one said of them. */
export function WrongRowsSection({ wrong, dataset }: { wrong: WrongRows; dataset: string }) {
  const { t } = useTranslation();
  const [all, setAll] = useState(false);
  const rows = all ? wrong.rows : wrong.rows.slice(0, FIRST);
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
      <Table.ScrollContainer minWidth={760}>
        <Table striped aria-label={t("report.wrong")}>
          <Table.Thead>
            <Table.Tr>
              <Table.Th className="number">{t("report.row")}</Table.Th>
              <Table.Th>{t("report.text")}</Table.Th>
              <Table.Th miw={150}>{t("report.gold")}</Table.Th>
              <Table.Th miw={150}>{t("report.predicted")}</Table.Th>
              <Table.Th miw={150}>{t("report.denseSaid")}</Table.Th>
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {rows.map((row) => (
              <Table.Tr key={row.row}>
                <Table.Td className="number">{count(row.row)}</Table.Td>
                <Table.Td className="breakable">
                  <div className="clamp">{row.text}</div>
                  {row.pair && (
                    <Text size="xs" c="dimmed" className="clamp">
                      {row.pair}
                    </Text>
                  )}
                </Table.Td>
                <Table.Td className="breakable">{row.gold}</Table.Td>
                <Table.Td className="breakable">
                  {row.predicted}
                  {row.probability !== null && (
                    <Text size="xs" c="dimmed" className="figure">
                      {percent(row.probability)}
                    </Text>
                  )}
                </Table.Td>
                <Table.Td className="breakable">{row.dense}</Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      </Table.ScrollContainer>
      {!all && wrong.rows.length > FIRST && (
        <Button variant="subtle" size="xs" onClick={() => setAll(true)}>
          {t("report.allWrong", { count: wrong.rows.length })}
        </Button>
      )}
    </Section>
  );
}

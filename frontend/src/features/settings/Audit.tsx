import { Code, Group, Table, Text, TextInput } from "@mantine/core";
import { useDebouncedCallback } from "@mantine/hooks";
import { keepPreviousData } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { api } from "@/api/client";
import { Empty } from "@/components/Empty";
import { Loaded } from "@/components/Loaded";
import { PAGE_SIZE, Pager, useListAddress } from "@/components/listing";
import { Section } from "@/components/Section";
import { dateTime } from "@/lib/format";
import { useWorkspace } from "@/session/session";

const FILTERS = ["action", "actor", "object_type", "object_id"] as const;

/** Who did what in this workspace, newest first. */
export function Audit() {
  const { t } = useTranslation();
  const { slug } = useWorkspace();
  const { get, set, page } = useListAddress();
  const setSoon = useDebouncedCallback(set, 400);
  const filters = Object.fromEntries(FILTERS.map((name) => [name, get(name) || undefined]));
  const filtered = FILTERS.some((name) => get(name));
  const query = api.useQuery(
    "get",
    "/api/v1/audit",
    { params: { query: { workspace: slug, ...filters, page, page_size: PAGE_SIZE } } },
    { placeholderData: keepPreviousData },
  );
  return (
    <Section title={t("audit.title")} note={t("audit.note")}>
      <Group>
        {FILTERS.map((name) => (
          <TextInput
            key={name}
            label={t(`audit.${name}`)}
            placeholder={t(`audit.${name}_example`)}
            defaultValue={get(name)}
            onChange={(event) => setSoon(name, event.currentTarget.value.trim())}
            size="xs"
            w={{ base: "100%", xs: 170 }}
          />
        ))}
      </Group>
      <Loaded query={query} lines={8}>
        {(list) =>
          list.count === 0 ? (
            <Empty
              title={filtered ? t("common.noneMatches") : t("audit.none")}
              text={filtered ? t("common.noneMatchesText") : t("audit.noneText")}
            />
          ) : (
            <>
              <Table.ScrollContainer minWidth={680}>
                <Table striped aria-label={t("audit.title")}>
                  <Table.Thead>
                    <Table.Tr>
                      <Table.Th className="nowrap">{t("audit.at")}</Table.Th>
                      <Table.Th>{t("audit.actor")}</Table.Th>
                      <Table.Th>{t("audit.action")}</Table.Th>
                      <Table.Th>{t("audit.object")}</Table.Th>
                      <Table.Th>{t("audit.data")}</Table.Th>
                    </Table.Tr>
                  </Table.Thead>
                  <Table.Tbody>
                    {list.results.map((event) => (
                      <Table.Tr key={event.id}>
                        <Table.Td className="nowrap">{dateTime(event.at)}</Table.Td>
                        <Table.Td className="nowrap">{event.actor}</Table.Td>
                        <Table.Td className="mono">{event.action}</Table.Td>
                        <Table.Td>
                          {event.object_type}
                          <Text size="xs" c="dimmed" className="mono breakable">
                            {event.object_id}
                          </Text>
                        </Table.Td>
                        <Table.Td className="breakable">
                          {Object.keys(event.data).length > 0 && <Code>{JSON.stringify(event.data)}</Code>}
                        </Table.Td>
                      </Table.Tr>
                    ))}
                  </Table.Tbody>
                </Table>
              </Table.ScrollContainer>
              <Pager count={list.count} page={page} onPage={(next) => set("page", String(next))} />
            </>
          )
        }
      </Loaded>
    </Section>
  );
}

import { Code, Group, Text, TextInput } from "@mantine/core";
import { useDebouncedCallback } from "@mantine/hooks";
import { keepPreviousData } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { api } from "@/api/client";
import { DataTable } from "@/components/DataTable";
import { Listed, PAGE_SIZE, useListAddress } from "@/components/listing";
import { Section } from "@/components/Section";
import { dateTime } from "@/lib/format";
import { useWorkspace } from "@/session/session";

const FILTERS = ["action", "actor", "object_type", "object_id"] as const;

/** Who did what in this workspace, newest first. */
export function Audit() {
  const { t } = useTranslation();
  const { slug } = useWorkspace();
  const address = useListAddress();
  const { get, set, page } = address;
  const setSoon = useDebouncedCallback(set, 400);
  const filters = Object.fromEntries(FILTERS.map((name) => [name, get(name) || undefined]));
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
      <Listed
        address={address}
        query={query}
        filtered={FILTERS.some((name) => get(name))}
        none={{ title: t("audit.none"), text: t("audit.noneText") }}
        lines={8}
      >
        {(rows) => (
          <DataTable
            label={t("audit.title")}
            rows={rows}
            columns={[
              { name: t("audit.at"), className: "nowrap", cell: ({ at }) => dateTime(at) },
              { name: t("audit.actor"), className: "nowrap", cell: ({ actor }) => actor },
              { name: t("audit.action"), className: "mono", cell: ({ action }) => action },
              {
                name: t("audit.object"),
                cell: ({ object_type, object_id }) => (
                  <>
                    {object_type}
                    <Text size="xs" c="dimmed" className="mono breakable">
                      {object_id}
                    </Text>
                  </>
                ),
              },
              {
                name: t("audit.data"),
                className: "breakable",
                cell: ({ data }) => Object.keys(data).length > 0 && <Code>{JSON.stringify(data)}</Code>,
              },
            ]}
            keyOf={({ id }) => id}
            minWidth={680}
            striped
          />
        )}
      </Listed>
    </Section>
  );
}

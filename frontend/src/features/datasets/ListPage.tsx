import { Anchor, Button, Table } from "@mantine/core";
import { keepPreviousData } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { Link, useNavigate } from "react-router";
import { api, reload } from "@/api/client";
import { Empty } from "@/components/Empty";
import { ErrorNote } from "@/components/ErrorNote";
import { ListFilters } from "@/components/ListFilters";
import { Loaded } from "@/components/Loaded";
import { PAGE_SIZE, Pager, useListAddress } from "@/components/listing";
import { Page } from "@/components/Page";
import { Section } from "@/components/Section";
import { StateBadge } from "@/components/StateBadge";
import { count, dateTime } from "@/lib/format";
import { useWorkspace } from "@/session/session";

const STATES = ["validating", "ready", "invalid"] as const;
const ORDERS = ["-created_at", "created_at", "name", "state"] as const;

export function Component() {
  const { t } = useTranslation();
  const { slug, canEdit } = useWorkspace();
  const address = useListAddress();
  const { get, set, page } = address;
  const state = STATES.find((known) => known === get("state"));
  const ordering = ORDERS.find((known) => known === get("ordering"));
  const search = get("search");
  const query = api.useQuery(
    "get",
    "/api/v1/datasets",
    {
      params: { query: { workspace: slug, state, ordering, search: search || undefined, page, page_size: PAGE_SIZE } },
    },
    {
      placeholderData: keepPreviousData,
      refetchInterval: ({ state: { data } }) =>
        data?.results.some((dataset) => dataset.state === "validating") ? 1500 : false,
    },
  );
  const filtered = Boolean(state || search);
  const buttons = canEdit && (
    <>
      <SampleButton workspace={slug} />
      <Button component={Link} to={`/w/${slug}/datasets/new`}>
        {t("datasets.upload")}
      </Button>
    </>
  );

  return (
    <Page title={t("datasets.title")} actions={buttons}>
      <Section title={t("datasets.all")}>
        <ListFilters
          address={address}
          choices={[
            {
              name: "state",
              label: t("common.state"),
              any: t("common.anyState"),
              options: STATES.map((value) => ({ value, label: t(`state.${value}`) })),
            },
          ]}
          orders={ORDERS}
        />
        <Loaded query={query}>
          {(list) =>
            list.count === 0 ? (
              <Empty
                title={filtered ? t("common.noneMatches") : t("datasets.none")}
                text={filtered ? t("common.noneMatchesText") : t("datasets.noneText")}
              />
            ) : (
              <>
                <Table.ScrollContainer minWidth={560}>
                  <Table highlightOnHover>
                    <Table.Thead>
                      <Table.Tr>
                        <Table.Th>{t("datasets.name")}</Table.Th>
                        <Table.Th>{t("common.state")}</Table.Th>
                        <Table.Th className="number">{t("datasets.rows")}</Table.Th>
                        <Table.Th className="number">{t("datasets.classes")}</Table.Th>
                        <Table.Th className="nowrap">{t("common.created")}</Table.Th>
                      </Table.Tr>
                    </Table.Thead>
                    <Table.Tbody>
                      {list.results.map((dataset) => (
                        <Table.Tr key={dataset.id}>
                          <Table.Td>
                            <Anchor component={Link} to={`/w/${slug}/datasets/${dataset.id}`} className="breakable">
                              {dataset.name}
                            </Anchor>
                          </Table.Td>
                          <Table.Td>
                            <StateBadge state={dataset.state} />
                          </Table.Td>
                          <Table.Td className="number">
                            {dataset.splits.length > 0
                              ? count(dataset.splits.reduce((sum, { rows }) => sum + rows, 0))
                              : "–"}
                          </Table.Td>
                          <Table.Td className="number">{dataset.labels.length || "–"}</Table.Td>
                          <Table.Td className="nowrap">{dateTime(dataset.created_at)}</Table.Td>
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
    </Page>
  );
}

function SampleButton({ workspace }: { workspace: string }) {
  const { t } = useTranslation();
  const navigate = useNavigate();
  const add = api.useMutation("post", "/api/v1/datasets/sample", {
    onSuccess: async (dataset) => {
      await reload("/api/v1/datasets");
      await navigate(`/w/${workspace}/datasets/${dataset.id}`);
    },
  });
  return (
    <>
      <Button variant="default" loading={add.isPending} onClick={() => add.mutate({ body: { workspace } })}>
        {t("datasets.sample")}
      </Button>
      {add.error && <ErrorNote error={add.error} />}
    </>
  );
}

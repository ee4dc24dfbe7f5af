import { Anchor, Badge, Group, SegmentedControl, Table, Text } from "@mantine/core";
import { keepPreviousData } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { api } from "@/api/client";
import type { VersionRow } from "@/api/types";
import { Empty } from "@/components/Empty";
import { ListFilters } from "@/components/ListFilters";
import { Loaded } from "@/components/Loaded";
import { PAGE_SIZE, Pager, useListAddress } from "@/components/listing";
import { Page } from "@/components/Page";
import { Section } from "@/components/Section";
import { bytes, dateTime, percent, real } from "@/lib/format";
import { useWorkspace } from "@/session/session";
import { isShare } from "./quality";

const ORDERS = ["-created_at", "created_at", "name"] as const;

/** A version's measure, with its name and what the dense model reached. */
function Headline({ of }: { of: VersionRow["headline"] | undefined }) {
  const { t } = useTranslation();
  if (!of) return "–";
  const shown = (value: number) => (isShare(of.metric) ? percent(value) : real(value));
  const metric = t(`metricName.${of.metric}` as "metricName.accuracy", {
    defaultValue: of.metric.replaceAll("_", " "),
  });
  return (
    <>
      {shown(of.value)}
      <Text size="xs" c="dimmed">
        {metric}
        {of.dense !== null && ` · ${t("models.denseReached", { value: shown(of.dense) })}`}
      </Text>
    </>
  );
}

export function Component() {
  const { t } = useTranslation();
  const { slug } = useWorkspace();
  const address = useListAddress();
  const { get, set, page } = address;
  const kind = get("kind") === "base" ? "base" : "sparse";
  const ordering = ORDERS.find((known) => known === get("ordering"));
  const search = get("search");
  const query = api.useQuery(
    "get",
    "/api/v1/models",
    {
      params: {
        query: {
          // Base models belong to the installation, so they are shown in every workspace.
          workspace: kind === "base" ? undefined : slug,
          kind,
          ordering,
          search: search || undefined,
          page,
          page_size: PAGE_SIZE,
        },
      },
    },
    { placeholderData: keepPreviousData },
  );
  return (
    <Page title={t("models.title")}>
      <Section title={t("models.all")}>
        <ListFilters address={address} orders={ORDERS}>
          <SegmentedControl
            aria-label={t("models.kind")}
            data={(["sparse", "base"] as const).map((value) => ({ value, label: t(`models.kinds.${value}`) }))}
            value={kind}
            onChange={(value) => set("kind", value === "sparse" ? "" : value)}
          />
        </ListFilters>
        <Loaded query={query}>
          {(list) =>
            list.count === 0 ? (
              <Empty
                title={search ? t("common.noneMatches") : t("models.none")}
                text={search ? t("common.noneMatchesText") : t(`models.noneText.${kind}`)}
              />
            ) : (
              <>
                <Table.ScrollContainer minWidth={kind === "sparse" ? 860 : 620}>
                  <Table highlightOnHover>
                    <Table.Thead>
                      <Table.Tr>
                        <Table.Th>{t("models.name")}</Table.Th>
                        <Table.Th>{t("models.latest")}</Table.Th>
                        {kind === "sparse" && (
                          <>
                            <Table.Th className="number">{t("models.quality")}</Table.Th>
                            <Table.Th className="number">{t("plan.sparsity")}</Table.Th>
                            <Table.Th className="number">{t("models.compact")}</Table.Th>
                          </>
                        )}
                        <Table.Th className="number">{t("models.dense")}</Table.Th>
                        <Table.Th>{t("models.aliases")}</Table.Th>
                        <Table.Th className="nowrap">{t("common.created")}</Table.Th>
                      </Table.Tr>
                    </Table.Thead>
                    <Table.Tbody>
                      {list.results.map((model) => (
                        <Table.Tr key={model.repo}>
                          <Table.Td>
                            <Anchor component={Link} to={`/w/${slug}/models/${model.repo}`} className="breakable">
                              {model.repo}
                            </Anchor>
                          </Table.Td>
                          <Table.Td className="figure">{model.latest ? `v${model.latest.number}` : "–"}</Table.Td>
                          {kind === "sparse" && (
                            <>
                              <Table.Td className="number">
                                <Headline of={model.latest?.headline} />
                              </Table.Td>
                              <Table.Td className="number">{percent(model.latest?.headline?.sparsity)}</Table.Td>
                              <Table.Td className="number">{bytes(model.latest?.bytes.compact)}</Table.Td>
                            </>
                          )}
                          <Table.Td className="number">{bytes(model.latest?.bytes.dense)}</Table.Td>
                          <Table.Td>
                            <Group gap={4}>
                              {model.aliases.map((alias) => (
                                <Badge key={alias.name} variant="light" tt="none">
                                  {alias.name} → v{alias.version}
                                </Badge>
                              ))}
                            </Group>
                          </Table.Td>
                          <Table.Td className="nowrap">{dateTime(model.created_at)}</Table.Td>
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

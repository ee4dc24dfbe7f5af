import { Anchor, Button, Progress, Table, Text } from "@mantine/core";
import { keepPreviousData } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { Link, type LoaderFunctionArgs } from "react-router";
import { api, queries } from "@/api/client";
import type { Job } from "@/api/types";
import { Empty } from "@/components/Empty";
import { ListFilters } from "@/components/ListFilters";
import { Loaded } from "@/components/Loaded";
import { type ListAddress, listAddress, PAGE_SIZE, Pager, useListAddress } from "@/components/listing";
import { Page } from "@/components/Page";
import { Section } from "@/components/Section";
import { StateBadge } from "@/components/StateBadge";
import { dateTime, percent } from "@/lib/format";
import { useWorkspace } from "@/session/session";
import { phaseName, stepShare } from "./ProgressPanel";

const STATES = ["queued", "running", "paused", "cancelling", "succeeded", "failed", "cancelled"] as const;
const MOVING = ["queued", "running", "cancelling"];
const ORDERS = ["-created_at", "created_at", "name", "state", "-finished_at"] as const;

/** What the list's address asks the server for. */
function asked(workspace: string, { get, page }: ListAddress) {
  const state = STATES.find((known) => known === get("state"));
  const ordering = ORDERS.find((known) => known === get("ordering"));
  return { workspace, state, ordering, search: get("search") || undefined, page, page_size: PAGE_SIZE };
}

/** This is the page behind the sign-in: its list is asked for before anything is drawn. */
export function loader({ params: { workspace = "" }, request }: LoaderFunctionArgs): null {
  const query = asked(workspace, listAddress(new URL(request.url).searchParams));
  void queries.prefetchQuery(api.queryOptions("get", "/api/v1/jobs", { params: { query } }));
  return null;
}

export function Component() {
  const { t } = useTranslation();
  const { slug, canEdit } = useWorkspace();
  const address = useListAddress();
  const wanted = asked(slug, address);
  const { state, search, page } = wanted;
  const filtered = Boolean(state || search);
  const query = api.useQuery(
    "get",
    "/api/v1/jobs",
    { params: { query: wanted } },
    {
      placeholderData: keepPreviousData,
      refetchInterval: ({ state: { data } }) =>
        data?.results.some((job) => MOVING.includes(job.state)) ? 2000 : false,
    },
  );
  const actions = (
    <>
      <Button component={Link} to={`/w/${slug}/jobs/compare`} variant="default">
        {t("jobs.toCompare")}
      </Button>
      {canEdit && (
        <Button component={Link} to={`/w/${slug}/jobs/new`}>
          {t("jobs.new")}
        </Button>
      )}
    </>
  );
  return (
    <Page title={t("jobs.title")} actions={actions}>
      <Section title={t("jobs.all")}>
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
                title={filtered ? t("common.noneMatches") : t("jobs.none")}
                text={filtered ? t("common.noneMatchesText") : t("jobs.noneText")}
              >
                {!filtered && (
                  <Button component={Link} to={`/w/${slug}/datasets`} variant="default">
                    {t("jobs.toDatasets")}
                  </Button>
                )}
              </Empty>
            ) : (
              <>
                <Table.ScrollContainer minWidth={680}>
                  <Table highlightOnHover>
                    <Table.Thead>
                      <Table.Tr>
                        <Table.Th>{t("jobs.name")}</Table.Th>
                        <Table.Th>{t("common.state")}</Table.Th>
                        <Table.Th w={220}>{t("jobs.progress")}</Table.Th>
                        <Table.Th className="number">{t("plan.sparsity")}</Table.Th>
                        <Table.Th className="nowrap">{t("common.created")}</Table.Th>
                      </Table.Tr>
                    </Table.Thead>
                    <Table.Tbody>
                      {list.results.map((job) => (
                        <Table.Tr key={job.id}>
                          <Table.Td>
                            <Anchor component={Link} to={`/w/${slug}/jobs/${job.id}`} className="breakable">
                              {job.name}
                            </Anchor>
                            <Text size="xs" c="dimmed" className="breakable">
                              {job.dataset.name} · {job.base_model.split("@")[0]}
                            </Text>
                          </Table.Td>
                          <Table.Td>
                            <StateBadge state={job.state} />
                          </Table.Td>
                          <Table.Td>
                            <Where job={job} />
                          </Table.Td>
                          <Table.Td className="number">{percent(job.plan.sparsity)}</Table.Td>
                          <Table.Td className="nowrap">{dateTime(job.created_at)}</Table.Td>
                        </Table.Tr>
                      ))}
                    </Table.Tbody>
                  </Table>
                </Table.ScrollContainer>
                <Pager count={list.count} page={page} onPage={(next) => address.set("page", String(next))} />
              </>
            )
          }
        </Loaded>
      </Section>
    </Page>
  );
}

/** How far a job is, in the space of a table's cell. */
function Where({ job }: { job: Job }) {
  const { t } = useTranslation();
  if (job.state === "queued") {
    return (
      <Text size="sm" c={job.waiting_for === "no_worker_online" ? "orange" : "dimmed"}>
        {job.waiting_for === "no_worker_online"
          ? t("jobs.noWorkerShort")
          : t("jobs.place", { position: job.queue_position ?? "–" })}
      </Text>
    );
  }
  if (job.state === "succeeded" && job.version) {
    return (
      <Text size="sm" className="breakable">
        {t("jobs.version", { repo: job.version.repo, number: job.version.number })}
      </Text>
    );
  }
  if (job.state !== "running") {
    return (
      <Text size="sm" c="dimmed" lineClamp={1}>
        {job.error}
      </Text>
    );
  }
  const share = stepShare(job.progress);
  if (share === null) return null;
  return (
    <>
      <Progress value={100 * share} aria-label={t("jobs.progress")} />
      <Text size="xs" c="dimmed" className="figure">
        {phaseName(t, job.progress.phase ?? "")} {percent(share, 0)}
      </Text>
    </>
  );
}

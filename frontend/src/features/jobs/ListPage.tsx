import { Anchor, Button, Progress, Text } from "@mantine/core";
import { keepPreviousData } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { Link, type LoaderFunctionArgs } from "react-router";
import { api, queries } from "@/api/client";
import type { Job } from "@/api/types";
import { type Columns, DataTable } from "@/components/DataTable";
import { ListFilters, useStateChoice } from "@/components/ListFilters";
import { type ListAddress, Listed, listAddress, listQuery, useListAddress } from "@/components/listing";
import { Page } from "@/components/Page";
import { Section } from "@/components/Section";
import { StateBadge } from "@/components/StateBadge";
import { dateTime, percent } from "@/lib/format";
import { useWorkspace } from "@/session/session";
import { stepShare } from "./ProgressPanel";
import { phaseName } from "./phases";

const STATES = ["queued", "running", "paused", "cancelling", "succeeded", "failed", "cancelled"] as const;
const MOVING = ["queued", "running", "cancelling"];
const ORDERS = ["-created_at", "created_at", "name", "state", "-finished_at"] as const;

/** What the list's address asks the server for. */
function asked(workspace: string, address: ListAddress) {
  return { workspace, ...listQuery(address, { state: STATES }, ORDERS) };
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
  const filtered = Boolean(wanted.state || wanted.search);
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
  const columns: Columns<Job> = [
    {
      name: t("jobs.name"),
      cell: (job) => (
        <>
          <Anchor component={Link} to={`/w/${slug}/jobs/${job.id}`} className="breakable">
            {job.name}
          </Anchor>
          <Text size="xs" c="dimmed" className="breakable">
            {job.dataset.name} · {job.base_model.split("@")[0]}
          </Text>
        </>
      ),
    },
    { name: t("common.state"), cell: ({ state }) => <StateBadge state={state} /> },
    { name: t("jobs.progress"), props: { w: 220 }, cell: (job) => <Where job={job} /> },
    { name: t("plan.sparsity"), className: "number", cell: ({ plan }) => percent(plan.sparsity) },
    { name: t("common.created"), className: "nowrap", cell: ({ created_at }) => dateTime(created_at) },
  ];
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
        <ListFilters address={address} choices={[useStateChoice(STATES)]} orders={ORDERS} />
        <Listed
          address={address}
          query={query}
          filtered={filtered}
          none={{
            title: t("jobs.none"),
            text: t("jobs.noneText"),
            children: (
              <Button component={Link} to={`/w/${slug}/datasets`} variant="default">
                {t("jobs.toDatasets")}
              </Button>
            ),
          }}
        >
          {(rows) => <DataTable rows={rows} columns={columns} keyOf={({ id }) => id} minWidth={680} highlightOnHover />}
        </Listed>
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

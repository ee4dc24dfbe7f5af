import { Alert, Anchor, Button, Group, SimpleGrid, Stack, Text } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { Link, useParams } from "react-router";
import { api, reload } from "@/api/client";
import type { Job } from "@/api/types";
import { Confirm } from "@/components/Confirm";
import { DataTable } from "@/components/DataTable";
import { ErrorNote } from "@/components/ErrorNote";
import { Loaded } from "@/components/Loaded";
import { Page } from "@/components/Page";
import { PlanTable } from "@/components/PlanTable";
import { Section } from "@/components/Section";
import { StateBadge } from "@/components/StateBadge";
import { dateTime } from "@/lib/format";
import { useWorkspace } from "@/session/session";
import { Curves } from "./Curves";
import { Log } from "./Log";
import { ProgressPanel } from "./ProgressPanel";
import { Report } from "./Report";
import { ResourcesPanel } from "./ResourcesPanel";
import { changedSettings } from "./settings";
import { targetWords } from "./targetWords";
import { useJobRecord } from "./useJobRecord";

const FINAL = ["succeeded", "failed", "cancelled"];

export function Component() {
  const { id = "" } = useParams();
  const query = api.useQuery(
    "get",
    "/api/v1/jobs/{job_id}",
    { params: { path: { job_id: id } } },
    { refetchInterval: ({ state: { data } }) => (data && FINAL.includes(data.state) ? false : 1000) },
  );
  return <Loaded query={query}>{(job) => <JobView job={job} />}</Loaded>;
}

function JobView({ job }: { job: Job }) {
  const { t } = useTranslation();
  const { slug, canEdit } = useWorkspace();
  const running = job.state === "running" || job.state === "cancelling";
  const record = useJobRecord(job.id, job.state, !FINAL.includes(job.state));
  return (
    <Page
      title={job.name}
      above={[{ label: t("jobs.title"), to: `/w/${slug}/jobs` }]}
      badge={<StateBadge state={job.state} />}
      note={t("jobs.madeBy", { who: job.created_by ?? "–", when: dateTime(job.created_at) })}
      actions={canEdit && <Actions job={job} />}
    >
      <div aria-live="polite" className="live">
        {job.message && (
          <Alert color={job.waiting_for === "no_worker_online" ? "yellow" : "blue"} data-testid="message">
            {job.waiting_for === "no_worker_online" ? t("jobs.noWorkerOnline", { queue: job.queue }) : job.message}
          </Alert>
        )}
        {job.queue_position != null && (
          <Text size="sm" c="dimmed" mt={4}>
            {t("jobs.position", { position: job.queue_position, queue: job.queue, workers: job.workers_online })}
          </Text>
        )}
        {job.error && (
          <Alert color="red" title={t("jobs.failed")}>
            {job.error}
            {job.state === "failed" && (
              <Text size="sm" mt="xs">
                {t("jobs.failedAdvice")}
              </Text>
            )}
          </Alert>
        )}
        {job.version && (
          <Alert color="green" title={t("jobs.published")}>
            <Anchor component={Link} to={`/w/${slug}/models/${job.version.repo}`}>
              {t("jobs.version", { repo: job.version.repo, number: job.version.number })}
            </Anchor>
          </Alert>
        )}
      </div>
      {job.report_available && <Report job={job} />}
      {record.data && record.data.phases.length > 0 && <ProgressPanel job={job} record={record.data} />}
      {record.data && record.data.time.length > 0 && <Curves record={record.data} jobId={job.id} />}
      {record.data && (running || record.data.resources) && (
        <ResourcesPanel record={record.data} jobId={job.id} running={running} />
      )}
      {record.error && <ErrorNote error={record.error} />}
      <Details job={job} />
      {record.data && record.data.log.length > 0 && <Log lines={record.data.log} />}
    </Page>
  );
}

function Actions({ job }: { job: Job }) {
  const { t } = useTranslation();
  const params = { params: { path: { job_id: job.id } } };
  const after = { onSuccess: () => reload("/api/v1/jobs") };
  const cancel = api.useMutation("post", "/api/v1/jobs/{job_id}/cancel", after);
  const pause = api.useMutation("post", "/api/v1/jobs/{job_id}/pause", after);
  const resume = api.useMutation("post", "/api/v1/jobs/{job_id}/resume", after);
  const retry = api.useMutation("post", "/api/v1/jobs/{job_id}/retry", after);
  const error = pause.error ?? resume.error ?? retry.error;
  const pausing = job.state === "running" && job.pause_requested;
  return (
    <Stack gap="xs" align="flex-end">
      <Group gap="xs">
        {(job.state === "queued" || (job.state === "running" && !pausing)) && (
          <Button variant="default" loading={pause.isPending} onClick={() => pause.mutate(params)}>
            {t("jobs.pause")}
          </Button>
        )}
        {(job.state === "paused" || pausing) && (
          <Button variant="default" loading={resume.isPending} onClick={() => resume.mutate(params)}>
            {pausing ? t("jobs.keepRunning") : t("jobs.resume")}
          </Button>
        )}
        <Button component={Link} to={`/w/${job.workspace}/jobs/new?clone=${job.id}`} variant="default">
          {t("jobs.clone")}
        </Button>
        <Button component={Link} to={`/w/${job.workspace}/jobs/compare?jobs=${job.id}`} variant="default">
          {t("jobs.compare")}
        </Button>
        {job.state === "failed" && (
          <Button loading={retry.isPending} onClick={() => retry.mutate(params)}>
            {t("jobs.retry")}
          </Button>
        )}
        {(job.state === "queued" || job.state === "running" || job.state === "paused") && (
          <Confirm
            label={t("jobs.cancel")}
            question={t("jobs.cancelQuestion", { name: job.name })}
            act={() => cancel.mutateAsync(params)}
            busy={cancel.isPending}
            error={cancel.error}
          />
        )}
      </Group>
      {pausing && (
        <Text size="sm" c="dimmed">
          {t("jobs.pausing")}
        </Text>
      )}
      {error && <ErrorNote error={error} />}
    </Stack>
  );
}

/** What was asked for, and what the planner answered when the job was submitted. */
function Details({ job }: { job: Job }) {
  const { t } = useTranslation();
  const { slug } = useWorkspace();
  const changed = changedSettings(job.settings);
  const target = targetWords(t, job.target, job.plan.time?.node).map(({ words }) => words);
  const facts: [string, React.ReactNode][] = [
    [
      t("jobs.dataset"),
      <Anchor key="dataset" component={Link} to={`/w/${slug}/datasets/${job.dataset.id}`} size="sm">
        {job.dataset.name}
      </Anchor>,
    ],
    [
      t("jobs.baseModel"),
      <span key="base" className="mono breakable" title={job.base_model}>
        {job.base_model.replace(/@([0-9a-f]{12})[0-9a-f]{28}$/, "@$1")}
      </span>,
    ],
    [t("jobs.targetTitle"), target.join(", ")],
    [t("jobs.method"), t(`method.${job.settings.method ?? "pst"}`)],
    [t("jobs.modelName"), `${job.workspace}/${job.model_name}`],
    [t("jobs.queue"), job.queue],
    [t("jobs.attempt"), t("jobs.attemptOf", { attempt: job.attempt, failures: job.failures, most: job.max_attempts })],
    [t("jobs.started"), dateTime(job.started_at)],
    [t("jobs.finished"), dateTime(job.finished_at)],
    [
      t("jobs.changed"),
      changed.map(([name, value]) => `${name} = ${String(value)}`).join(", ") || t("jobs.allDefault"),
    ],
  ];
  return (
    <Section title={t("jobs.details")}>
      <SimpleGrid cols={{ base: 1, md: 2 }}>
        <DataTable
          label={t("jobs.details")}
          rows={facts}
          columns={[
            { name: "fact", head: null, isRowHead: true, props: { w: "38%", c: "dimmed" }, cell: ([name]) => name },
            { name: "value", head: null, className: "breakable", cell: ([, value]) => value },
          ]}
          keyOf={([name]) => name}
        />
        <PlanTable plan={job.plan} />
      </SimpleGrid>
    </Section>
  );
}

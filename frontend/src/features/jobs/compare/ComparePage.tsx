import { Anchor, Button, MultiSelect, Select, SimpleGrid, Text } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { useQueries } from "@tanstack/react-query";
import { type ReactNode, useMemo, useState } from "react";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { api } from "@/api/client";
import type { Job, Report } from "@/api/types";
import { DataTable } from "@/components/DataTable";
import { Empty } from "@/components/Empty";
import { ErrorNote } from "@/components/ErrorNote";
import { useListAddress } from "@/components/listing";
import { OverlayChart } from "@/components/OverlayChart";
import { Page } from "@/components/Page";
import { Section } from "@/components/Section";
import { StateBadge } from "@/components/StateBadge";
import { Figure, measureName, shown } from "@/features/jobs/measures/MeasuresTable";
import { type Measure, measuresOf } from "@/features/jobs/measures/measures";
import { columnNames, pointAt, pointOf, priceOf } from "@/features/jobs/measures/points";
import { QualityPicture } from "@/features/jobs/measures/QualityPicture";
import { recordQuery } from "@/features/jobs/useJobRecord";
import { dateTime, percent, real } from "@/lib/format";
import { numberOf } from "@/lib/tree";
import { useWorkspace } from "@/session/session";
import { differing, linesOf } from "./compare";
import { SweepFile } from "./SweepFile";

const MOST = 8;
const tenths = (share: number) => percent(share, 1);
const whole = (share: number) => percent(share, 0);

export function Component() {
  const { t } = useTranslation();
  const { slug } = useWorkspace();
  const { get, set } = useListAddress();
  const ids = get("jobs").split(",").filter(Boolean).slice(0, MOST);
  const found = useQueries({
    queries: ids.map((id) => api.queryOptions("get", "/api/v1/jobs/{job_id}", { params: { path: { job_id: id } } })),
  });
  const jobs = found.flatMap(({ data }) => (data ? [data] : []));
  const error = found.find((query) => query.error)?.error;
  return (
    <Page title={t("compare.title")} above={[{ label: t("jobs.title"), to: `/w/${slug}/jobs` }]}>
      <Section title={t("compare.pick")} note={t("compare.pickNote", { most: MOST })}>
        <Picker ids={ids} jobs={jobs} onChange={(chosen) => set("jobs", chosen.join(","))} />
        {error && <ErrorNote error={error} />}
      </Section>
      {ids.length < 2 ? (
        <Empty title={t("compare.none")} text={t("compare.noneText")}>
          <Button component={Link} to={`/w/${slug}/jobs`} variant="default">
            {t("compare.toJobs")}
          </Button>
        </Empty>
      ) : (
        jobs.length === ids.length && <Comparison jobs={jobs} />
      )}
      <SweepFile />
    </Page>
  );
}

function Picker({ ids, jobs, onChange }: { ids: string[]; jobs: Job[]; onChange: (ids: string[]) => void }) {
  const { t } = useTranslation();
  const { slug } = useWorkspace();
  const [search, setSearch] = useState("");
  const [settled] = useDebouncedValue(search, 250);
  const list = api.useQuery("get", "/api/v1/jobs", {
    params: { query: { workspace: slug, search: settled || undefined, page_size: 50 } },
  });
  const known = [...jobs, ...(list.data?.results ?? [])].map(
    (job) => [job.id, `${job.name} · ${percent(job.plan.sparsity)} · ${dateTime(job.created_at)}`] as const,
  );
  // One that is still on its way, or out of reach, stays picked when another is.
  const labels = new Map([...ids.map((id) => [id, id.slice(0, 8)] as const), ...known]);
  return (
    <MultiSelect
      label={t("compare.jobs")}
      placeholder={t("common.search")}
      data={[...labels].map(([value, label]) => ({ value, label }))}
      value={ids}
      onChange={onChange}
      searchValue={search}
      onSearchChange={setSearch}
      filter={({ options }) => options}
      maxValues={MOST}
      searchable
      clearable
      hidePickedOptions
    />
  );
}

function Comparison({ jobs }: { jobs: Job[] }) {
  const { t } = useTranslation();
  const names = useMemo(() => columnNames(jobs), [jobs]);
  const records = useQueries({ queries: jobs.map(({ id }) => recordQuery(id)) });
  const reports = useQueries({
    queries: jobs.map(({ id, report_available }) =>
      api.queryOptions(
        "get",
        "/api/v1/jobs/{job_id}/report",
        { params: { path: { job_id: id } } },
        { enabled: report_available, staleTime: Number.POSITIVE_INFINITY },
      ),
    ),
  });
  const labelled = names.map((label, at) => ({ label, record: records[at]?.data }));
  const curves = (["loss", "score", "sparsity", "rate"] as const)
    .map((series) => ({ series, lines: linesOf(labelled, series) }))
    .filter(({ lines }) => lines.length > 0);
  const points = names.flatMap((label, at) => pointOf(label, reports[at]?.data));
  // Speed-ups are comparable where they are of one shape: each was measured against dense in turns, under one load.
  const shape = reports.map(({ data }) => priceOf(data, "speedup")).find((found) => found !== undefined)?.of;
  const timed = names.flatMap((label, at) => {
    const own = priceOf(reports[at]?.data, "speedup")?.of;
    return own?.rows === shape?.rows && own?.tokens === shape?.tokens
      ? pointOf(label, reports[at]?.data, "speedup")
      : [];
  });
  const titles = { loss: t("jobs.loss"), score: t("jobs.score"), sparsity: t("jobs.sparsity"), rate: t("jobs.rate") };
  const formats = { loss: real, score: tenths, sparsity: whole, rate: real };
  return (
    <>
      <Section title={t("compare.results")}>
        <Results jobs={jobs} names={names} measures={reports.map(({ data }) => measuresOf(data))} />
        <SimpleGrid cols={{ base: 1, md: 2 }}>
          {points.length > 0 && (
            <QualityPicture points={points} against={t("compare.bytes")} price="bytes" wish="less" />
          )}
          {timed.length > 0 && shape && (
            <QualityPicture points={timed} against={t("compare.speedup", shape)} price="ratio" wish="more" />
          )}
        </SimpleGrid>
        {points.length > 1 && (
          <Text size="xs" c="dimmed">
            {t("compare.frontNote")}
          </Text>
        )}
      </Section>
      <Section title={t("compare.differences")} note={t("compare.differencesNote")}>
        <Differences jobs={jobs} names={names} />
        <Sweep jobs={jobs} names={names} reports={reports.map(({ data }) => data)} />
      </Section>
      {curves.length > 0 && (
        <Section title={t("jobs.curves")} note={t("compare.curvesNote")}>
          <SimpleGrid cols={{ base: 1, md: 2 }}>
            {curves.map(({ series, lines }) => (
              <OverlayChart key={series} title={titles[series]} lines={lines} format={formats[series]} />
            ))}
          </SimpleGrid>
        </Section>
      )}
    </>
  );
}

/** Quality over the values of a setting that the jobs were given on purpose. */
function Sweep({ jobs, names, reports }: { jobs: Job[]; names: string[]; reports: (Report | undefined)[] }) {
  const { t } = useTranslation();
  const { get, set } = useListAddress();
  const swept = differing(jobs).filter(({ values }) => values.every((value) => typeof value === "number"));
  const chosen = swept.find(({ name }) => name === get("over")) ?? swept[0];
  const points = names.flatMap((label, at) => pointAt(label, reports[at], numberOf(chosen?.values[at])));
  if (!chosen || points.length < 2) return null;
  return (
    <>
      <Select
        label={t("compare.over")}
        data={swept.map(({ name }) => name)}
        value={chosen.name}
        onChange={(name) => set("over", name ?? "")}
        allowDeselect={false}
        maw={320}
      />
      <QualityPicture
        points={points}
        against={chosen.name}
        price={chosen.name === "target.sparsity" ? "share" : "number"}
        wish={null}
      />
    </>
  );
}

interface JobsTableProps {
  label: string;
  /** Above the rows' names. */
  first: string;
  mono?: boolean;
  /** A name, and what each job has there. */
  rows: { name: string; cells: ReactNode[] }[];
  jobs: Job[];
  names: string[];
}

/** A column for each job. */
function JobsTable({ label, first, mono, rows, jobs, names }: JobsTableProps) {
  const { slug } = useWorkspace();
  return (
    <DataTable
      label={label}
      rows={rows}
      columns={[
        {
          name: first,
          isRowHead: true,
          className: mono ? "mono breakable" : "",
          props: { miw: 120 },
          cell: ({ name }) => name,
        },
        ...jobs.map(({ id }, at) => ({
          name: id,
          head: (
            <Anchor component={Link} to={`/w/${slug}/jobs/${id}`} size="sm" className="wraps">
              {names[at]}
            </Anchor>
          ),
          className: "number",
          cell: ({ cells }: JobsTableProps["rows"][number]) => cells[at],
        })),
      ]}
      keyOf={({ name }) => name}
      minWidth={120 + 100 * jobs.length}
    />
  );
}

function Results({ jobs, names, measures }: { jobs: Job[]; names: string[]; measures: Measure[][] }) {
  const { t } = useTranslation();
  const lines = new Map<string, (Measure | undefined)[]>();
  measures.forEach((own, at) => {
    for (const measure of own.filter((each) => each.name !== "time")) {
      const name = measureName(t, measure);
      const line = lines.get(name) ?? jobs.map(() => undefined);
      line[at] = measure;
      lines.set(name, line);
    }
  });
  const shownOf = (measure: Measure | undefined) => (
    <>
      <Figure unit={measure?.unit} value={measure?.sparse} />
      {measure?.dense && measure.name !== "sparsity" && (
        <Text size="xs" c="dimmed">
          {t("compare.dense", { value: shown(measure.unit, measure.dense.value) })}
        </Text>
      )}
    </>
  );
  return (
    <JobsTable
      label={t("compare.results")}
      first={t("report.measure")}
      rows={[
        { name: t("common.state"), cells: jobs.map(({ id, state }) => <StateBadge key={id} state={state} />) },
        ...[...lines].map(([name, line]) => ({ name, cells: line.map(shownOf) })),
      ]}
      jobs={jobs}
      names={names}
    />
  );
}

function Differences({ jobs, names }: { jobs: Job[]; names: string[] }) {
  const { t } = useTranslation();
  const rows = differing(jobs);
  if (rows.length === 0) {
    return (
      <Text size="sm" c="dimmed">
        {t("compare.same")}
      </Text>
    );
  }
  return (
    <JobsTable
      label={t("compare.differences")}
      first={t("compare.setting")}
      mono
      rows={rows.map(({ name, values }) => ({
        name,
        cells: values.map((value) => (value == null ? "–" : String(value))),
      }))}
      jobs={jobs}
      names={names}
    />
  );
}

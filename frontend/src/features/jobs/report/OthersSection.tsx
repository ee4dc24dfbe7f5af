import { Anchor, Button, Group } from "@mantine/core";
import { useQueries } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { api } from "@/api/client";
import type { Job, Report } from "@/api/types";
import { DataTable } from "@/components/DataTable";
import { Section } from "@/components/Section";
import { Figure } from "@/features/jobs/measures/MeasuresTable";
import type { Measure } from "@/features/jobs/measures/measures";
import { columnNames, type Point, pointOf, priceOf, primaryOf } from "@/features/jobs/measures/points";
import { QualityPicture } from "@/features/jobs/measures/QualityPicture";

/** As many as can be compared on one page. */
const MOST = 8;

/** This run among the others on the same rows and base model: other sparsities, and the methods it is judged by. */
export function OthersSection({ job, report }: { job: Job; report: Report }) {
  const { t } = useTranslation();
  const list = api.useQuery("get", "/api/v1/jobs", {
    params: { query: { workspace: job.workspace, dataset: job.dataset.id, state: "succeeded", page_size: 50 } },
  });
  const jobs = [
    job,
    ...(list.data?.results ?? []).filter(
      ({ id, base_model, report_available }) => id !== job.id && base_model === job.base_model && report_available,
    ),
  ].slice(0, MOST);
  const others = useQueries({
    queries: jobs
      .slice(1)
      .map(({ id }) =>
        api.queryOptions(
          "get",
          "/api/v1/jobs/{job_id}/report",
          { params: { path: { job_id: id } } },
          { staleTime: Number.POSITIVE_INFINITY },
        ),
      ),
  });
  const names = columnNames(jobs);
  const reports = [report, ...others.map(({ data }) => data)];
  const own = primaryOf(report);
  const dense: Point[] = own?.dense
    ? [{ label: t("report.dense"), cost: 0, value: own.dense.value, measure: own }]
    : [];
  const points = [...dense, ...names.flatMap((label, at) => pointOf(label, reports[at], "sparsity"))].filter(
    ({ measure }) => measure.of.metric === own?.of.metric && measure.of.split === own?.of.split,
  );
  if (!own) return null;
  const root = `/w/${job.workspace}/jobs`;
  const of = (measure: Measure | undefined, which: "dense" | "sparse") => ({
    unit: measure?.unit,
    value: measure?.[which],
  });
  const rows = [
    {
      id: "dense",
      name: t("report.dense"),
      method: null,
      sparsity: of(priceOf(report, "sparsity"), "dense"),
      quality: of(own, "dense"),
      size: of(priceOf(report, "bytes"), "dense"),
    },
    ...jobs.map(({ id, settings }, at) => ({
      id,
      name:
        id === job.id ? (
          names[at]
        ) : (
          <Anchor component={Link} to={`${root}/${id}/report`} size="sm" className="breakable">
            {names[at]}
          </Anchor>
        ),
      method: settings.method ?? "pst",
      sparsity: of(priceOf(reports[at], "sparsity"), "sparse"),
      quality: of(primaryOf(reports[at]), "sparse"),
      size: of(priceOf(reports[at], "bytes"), "sparse"),
    })),
  ];
  return (
    <Section
      title={t("report.others")}
      note={jobs.length > 1 ? t("report.othersNote") : t("report.noOthers")}
      actions={
        <Group gap="xs">
          <Button component={Link} to={`${root}/new?clone=${job.id}`} variant="default" size="xs">
            {t("jobs.clone")}
          </Button>
          {jobs.length > 1 && (
            <Button
              component={Link}
              to={`${root}/compare?jobs=${jobs.map(({ id }) => id).join(",")}`}
              variant="default"
              size="xs"
            >
              {t("jobs.compare")}
            </Button>
          )}
        </Group>
      }
    >
      <QualityPicture points={points} against={t("plan.sparsity")} price="share" wish="more" />
      <DataTable
        label={t("report.others")}
        rows={rows}
        columns={[
          { name: t("jobs.name"), isRowHead: true, cell: ({ name }) => name },
          { name: t("jobs.method"), cell: ({ method }) => (method ? t(`method.${method}`) : "–") },
          { name: t("plan.sparsity"), className: "number", cell: ({ sparsity }) => <Figure {...sparsity} /> },
          {
            name: "quality",
            head: points[0] && t("report.quality"),
            className: "number",
            cell: ({ quality }) => <Figure {...quality} />,
          },
          { name: t("report.measures.bytes"), className: "number", cell: ({ size }) => <Figure {...size} /> },
        ]}
        keyOf={({ id }) => id}
        isStrong={({ id }) => id === job.id}
        minWidth={480}
      />
    </Section>
  );
}

import { Anchor, Button, Group, Table, Text } from "@mantine/core";
import { useQueries } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { api } from "@/api/client";
import type { Job } from "@/api/types";
import { Section } from "@/components/Section";
import { columnNames, type Point, pointOf, priceOf, primaryOf } from "@/features/jobs/compare/compare";
import { QualityPicture } from "@/features/jobs/compare/QualityPicture";
import { shown, spanOf } from "./MeasuresTable";
import type { Measure, Value } from "./read";

/** As many as can be compared on one page. */
const MOST = 8;

/** This run among the others on the same rows and base model: other sparsities, and the methods it is judged by. */
export function OthersSection({ job, report }: { job: Job; report: unknown }) {
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
  const reports = [report, ...others.map(({ data }): unknown => data)];
  const own = primaryOf(report);
  const dense: Point[] = own?.dense
    ? [{ label: t("report.dense"), cost: 0, value: own.dense.value, measure: own }]
    : [];
  const points = [...dense, ...names.flatMap((label, at) => pointOf(label, reports[at], "sparsity"))].filter(
    ({ measure }) => measure.of.metric === own?.of.metric && measure.of.split === own?.of.split,
  );
  if (!own) return null;
  const root = `/w/${job.workspace}/jobs`;
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
      <Table.ScrollContainer minWidth={480}>
        <Table aria-label={t("report.others")}>
          <Table.Thead>
            <Table.Tr>
              <Table.Th>{t("jobs.name")}</Table.Th>
              <Table.Th>{t("jobs.method")}</Table.Th>
              <Table.Th className="number">{t("plan.sparsity")}</Table.Th>
              <Table.Th className="number">{points[0] && t("report.quality")}</Table.Th>
              <Table.Th className="number">{t("report.measures.bytes")}</Table.Th>
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            <Table.Tr>
              <Table.Th scope="row" fw={400}>
                {t("report.dense")}
              </Table.Th>
              <Table.Td>–</Table.Td>
              <Table.Td className="number">{shown("share", 0)}</Table.Td>
              <Cell measure={own} value={own.dense} />
              <Cell measure={priceOf(report, "bytes")} value={priceOf(report, "bytes")?.dense} />
            </Table.Tr>
            {jobs.map((other, at) => (
              <Table.Tr key={other.id} fw={other.id === job.id ? 600 : undefined}>
                <Table.Th scope="row" fw="inherit">
                  {other.id === job.id ? (
                    names[at]
                  ) : (
                    <Anchor component={Link} to={`${root}/${other.id}/report`} size="sm" className="breakable">
                      {names[at]}
                    </Anchor>
                  )}
                </Table.Th>
                <Table.Td>{t(`method.${other.settings.method ?? "pst"}`)}</Table.Td>
                <Cell measure={priceOf(reports[at], "sparsity")} value={priceOf(reports[at], "sparsity")?.sparse} />
                <Cell measure={primaryOf(reports[at])} value={primaryOf(reports[at])?.sparse} />
                <Cell measure={priceOf(reports[at], "bytes")} value={priceOf(reports[at], "bytes")?.sparse} />
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      </Table.ScrollContainer>
    </Section>
  );
}

function Cell({ measure, value }: { measure: Measure | undefined; value: Value | null | undefined }) {
  const span = measure && value ? spanOf(value, measure.unit) : "";
  return (
    <Table.Td className="number">
      {measure && value ? shown(measure.unit, value.value) : "–"}
      {span && (
        <Text size="xs" c="dimmed" fw={400} className="interval">
          {span}
        </Text>
      )}
    </Table.Td>
  );
}

import { Button, SimpleGrid, Stack } from "@mantine/core";
import type { TFunction } from "i18next";
import { useTranslation } from "react-i18next";
import { useParams } from "react-router";
import { api } from "@/api/client";
import type { Job, Report } from "@/api/types";
import { Loaded } from "@/components/Loaded";
import { Page } from "@/components/Page";
import { Section } from "@/components/Section";
import { MeasuresTable, measureName } from "@/features/jobs/measures/MeasuresTable";
import { type Measure, measuresOf } from "@/features/jobs/measures/measures";
import { Seconds, useReport } from "@/features/jobs/Report";
import { csv, fileName, saveText } from "@/lib/save";
import { listOf } from "@/lib/tree";
import { ConfusionSection } from "./ConfusionSection";
import { HistogramPicture } from "./HistogramPicture";
import { LayersSection } from "./LayersSection";
import { OthersSection } from "./OthersSection";
import { confusionOf, distributionsOf, matricesOf } from "./read";
import { SamplesSection } from "./SamplesSection";
import { WrongRowsSection } from "./WrongRowsSection";

export function Component() {
  const { id = "" } = useParams();
  const job = api.useQuery("get", "/api/v1/jobs/{job_id}", { params: { path: { job_id: id } } });
  const report = useReport(id);
  return (
    <Loaded query={job}>
      {(found) => <Loaded query={report}>{(data) => <ReportView job={found} report={data} />}</Loaded>}
    </Loaded>
  );
}

function ReportView({ job, report }: { job: Job; report: Report }) {
  const { t } = useTranslation();
  const root = `/w/${job.workspace}`;
  const measures = measuresOf(report);
  const matrices = matricesOf(report);
  const distributions = distributionsOf(report);
  const confusion = confusionOf(report);
  const wrong = report.errors;
  const samples = listOf(report.samples);
  const name = fileName(job.name);
  const actions = (
    <>
      <Button
        component="a"
        href={`/api/v1/jobs/${job.id}/report`}
        download={`${name}.report.json`}
        variant="default"
        size="xs"
      >
        {t("report.json")}
      </Button>
      <Button
        variant="default"
        size="xs"
        onClick={() => saveText(csv(tableOf(t, measures)), `${name}.report.csv`, "text/csv")}
      >
        {t("report.csv")}
      </Button>
    </>
  );
  return (
    <Page
      title={t("report.of", { name: job.name })}
      above={[
        { label: t("jobs.title"), to: `${root}/jobs` },
        { label: job.name, to: `${root}/jobs/${job.id}` },
      ]}
      note={t("report.note")}
      actions={actions}
    >
      <Section title={t("report.all")} note={t("report.allNote")}>
        <MeasuresTable title={t("report.all")} measures={measures} />
        <Seconds report={report} />
        <Notes report={report} />
      </Section>
      <OthersSection job={job} report={report} />
      {samples.length > 0 && <SamplesSection samples={samples} />}
      {confusion && <ConfusionSection confusion={confusion} />}
      {matrices.length > 0 && <LayersSection matrices={matrices} />}
      {distributions.length > 0 && (
        <Section title={t("report.distributions")} note={t("report.distributionsNote")}>
          <Stack gap="md">
            {distributions.map(({ group, weight, score }) => (
              <SimpleGrid key={group} cols={{ base: 1, sm: 2 }}>
                {weight && <HistogramPicture title={t("report.weightsOf", { group })} counts={weight} />}
                {score && <HistogramPicture title={t("report.scoresOf", { group })} counts={score} />}
              </SimpleGrid>
            ))}
          </Stack>
        </Section>
      )}
      {wrong && listOf(wrong.rows).length > 0 && (
        <WrongRowsSection wrong={wrong} dataset={`${root}/datasets/${job.dataset.id}`} />
      )}
    </Page>
  );
}

/** How the costs were taken, in the report's own words. */
function Notes({ report }: { report: Report }) {
  const notes = [report.measures?.flops?.formula, report.measures?.time?.engine, report.measures?.time?.note].filter(
    Boolean,
  );
  return notes.map((note) => (
    <p key={note} lang="en" style={{ margin: 0, fontSize: 12, color: "var(--mantine-color-dimmed)" }}>
      {note}
    </p>
  ));
}

function tableOf(t: TFunction, measures: Measure[]): (string | number | null)[][] {
  const cells = (value: Measure["dense"]) => [
    value?.value ?? null,
    value?.interval?.[0] ?? null,
    value?.interval?.[1] ?? null,
  ];
  const heads = ["dense", "sparse", "difference"].flatMap((who) => [who, `${who}_low`, `${who}_high`]);
  return [
    ["measure", "unit", ...heads],
    ...measures.map((measure) => [
      measureName(t, measure),
      measure.unit,
      ...cells(measure.dense),
      ...cells(measure.sparse),
      ...cells(measure.difference),
    ]),
  ];
}

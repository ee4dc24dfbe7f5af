import { Anchor, Group, Text } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { api } from "@/api/client";
import type { Job, Report as RunReport } from "@/api/types";
import { Loaded } from "@/components/Loaded";
import { Section } from "@/components/Section";
import { duration } from "@/lib/format";
import { MeasuresTable } from "./measures/MeasuresTable";
import { measuresOf } from "./measures/measures";
import { phaseName } from "./phases";

export function useReport(id: string, enabled = true) {
  return api.useQuery(
    "get",
    "/api/v1/jobs/{job_id}/report",
    { params: { path: { job_id: id } } },
    { staleTime: Number.POSITIVE_INFINITY, enabled },
  );
}

const MAIN = ["quality", "nonzero", "bytes", "sparsity", "agreement"];

/** The result in short: the sparse model beside the dense one. */
export function Report({ job }: { job: Job }) {
  const { t } = useTranslation();
  const query = useReport(job.id);
  return (
    <Section
      title={t("report.title")}
      actions={
        <Anchor component={Link} to={`/w/${job.workspace}/jobs/${job.id}/report`} size="sm">
          {t("report.whole")}
        </Anchor>
      }
    >
      <Loaded query={query}>
        {(report) => (
          <>
            <MeasuresTable
              title={t("report.title")}
              measures={measuresOf(report).filter(({ name }) => MAIN.includes(name))}
            />
            <Seconds report={report} />
          </>
        )}
      </Loaded>
    </Section>
  );
}

/** How long each phase took. */
export function Seconds({ report }: { report: RunReport }) {
  const { t } = useTranslation();
  const phases = Object.entries(report.seconds ?? {}).map(([phase, seconds]) => ({ phase, seconds: seconds ?? 0 }));
  if (phases.length === 0) return null;
  return (
    <Group>
      <Text size="sm" c="dimmed">
        {t("report.time", {
          total: duration(phases.reduce((sum, { seconds }) => sum + seconds, 0)),
          phases: phases.map(({ phase, seconds }) => `${phaseName(t, phase)} ${duration(seconds)}`).join(", "),
        })}
      </Text>
    </Group>
  );
}

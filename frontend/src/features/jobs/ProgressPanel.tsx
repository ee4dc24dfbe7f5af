import { Group, Progress, Stack, Text } from "@mantine/core";
import type { TFunction } from "i18next";
import { useTranslation } from "react-i18next";
import type { Job } from "@/api/types";
import { Section } from "@/components/Section";
import { Stats } from "@/components/Stat";
import { count, duration, percent, real } from "@/lib/format";
import { PhaseTimeline } from "./PhaseTimeline";
import { phaseName } from "./phases";
import type { JobRecord } from "./record";

/** Where the job is: its phases with their times, the current one's steps, and how long it will take. */
export function ProgressPanel({ job, record }: { job: Job; record: JobRecord }) {
  const { t } = useTranslation();
  const current = record.phases.at(-1);
  const running = job.state === "running" || job.state === "cancelling";
  const { progress } = job;
  const share = stepShare(progress);
  const steps = running && current?.phase === progress.phase ? share : null;
  return (
    <Section title={t("jobs.progress")}>
      <PhaseTimeline phases={record.phases} running={running} />
      {running && current && (
        <Stack gap={4}>
          <Progress.Root size="lg">
            <Progress.Section
              value={steps === null ? 100 : 100 * steps}
              animated={steps === null}
              striped={steps === null}
              aria-label={t("jobs.progress")}
              aria-valuetext={steps === null ? t("jobs.working") : percent(steps, 0)}
            />
          </Progress.Root>
          <Group justify="space-between">
            <Text size="sm" className="figure">
              {steps === null
                ? phaseName(t, current.phase)
                : t(progress.part === "calibration" ? "jobs.calibrating" : "jobs.step", {
                    phase: phaseName(t, current.phase),
                    step: count(progress.step),
                    total: count(progress.total_steps),
                  })}
            </Text>
            {steps !== null && progress.eta_seconds != null && (
              <Text size="sm" className="figure" c="dimmed">
                {t("jobs.eta", { time: duration(progress.eta_seconds) })}
              </Text>
            )}
          </Group>
        </Stack>
      )}
      {running && steps !== null && (
        <Stats
          cols={3}
          figures={[
            { label: t("jobs.loss"), value: real(progress.loss) },
            { label: t("jobs.sparsity"), value: percent(progress.sparsity) },
            { label: scoreName(t, record.scoreName), value: percent(progress.metric) },
          ]}
        />
      )}
    </Section>
  );
}

/** How much of the phase that counts steps is done; null while nothing is counted. */
export function stepShare({ step, total_steps }: Job["progress"]): number | null {
  return step != null && total_steps ? step / total_steps : null;
}

/** "accuracy" -> "Accuracy (validation)": training is scored on the validation split. */
export function scoreName(t: TFunction, name: string): string {
  return name ? t(`metric.${name}` as "metric.accuracy", { defaultValue: name }) : t("jobs.score");
}

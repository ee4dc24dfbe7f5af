import { Badge, Group, Progress, Stack, Text } from "@mantine/core";
import { useTranslation } from "react-i18next";
import type { Job } from "@/api/types";
import { Section } from "@/components/Section";
import { Stats } from "@/components/Stat";
import { count, duration, percent, real } from "@/lib/format";
import { type JobRecord, type PhaseSpan, progressOf } from "./record";

/** Where the job is: its phases with their times, the current one's steps, and how long it will take. */
export function ProgressPanel({ job, record }: { job: Job; record: JobRecord }) {
  const { t } = useTranslation();
  const attempt = record.phases.at(-1)?.attempt;
  const phases = record.phases.filter((span) => span.attempt === attempt);
  const current = phases.at(-1);
  const running = job.state === "running" || job.state === "cancelling";
  const progress = progressOf(job.progress);
  const share = progress.step !== null && progress.total ? progress.step / progress.total : null;
  const steps = running && current?.phase === progress.phase ? share : null;
  return (
    <Section title={t("jobs.progress")}>
      <Group gap="xs" component="ol" p={0} m={0} style={{ listStyle: "none" }}>
        {phases.map((span) => (
          <PhaseStep key={`${span.attempt} ${span.phase}`} span={span} active={running && span === current} />
        ))}
      </Group>
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
                : t("jobs.step", {
                    phase: phaseName(t, current.phase),
                    step: count(progress.step),
                    total: count(progress.total),
                  })}
            </Text>
            {steps !== null && progress.eta !== null && (
              <Text size="sm" className="figure" c="dimmed">
                {t("jobs.eta", { time: duration(progress.eta) })}
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
            { label: scoreName(t, record.scoreName), value: percent(progress.score) },
          ]}
        />
      )}
    </Section>
  );
}

type Translate = ReturnType<typeof useTranslation>["t"];

/** A phase that this page does not know yet is shown under its own name. */
export function phaseName(t: Translate, phase: string): string {
  return t(`phase.${phase}` as "phase.train", { defaultValue: phase });
}

/** "accuracy" -> "Accuracy (validation)": training is scored on the validation split. */
export function scoreName(t: Translate, name: string): string {
  return name ? t(`metric.${name}` as "metric.accuracy", { defaultValue: name }) : t("jobs.score");
}

function PhaseStep({ span, active }: { span: PhaseSpan; active: boolean }) {
  const { t } = useTranslation();
  return (
    <li aria-current={active ? "step" : undefined}>
      <Badge variant={active ? "filled" : "light"} tt="none" size="lg" radius="sm">
        {phaseName(t, span.phase)}
        {span.end !== null && <span className="figure"> · {duration(span.end - span.start)}</span>}
      </Badge>
    </li>
  );
}

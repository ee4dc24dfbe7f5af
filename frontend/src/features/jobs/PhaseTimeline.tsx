import { Box, Group, Stack, Text } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { duration } from "@/lib/format";
import { phaseName } from "./phases";
import type { PhaseSpan } from "./record";

const SHADES = ["cyan-9", "cyan-7", "cyan-8", "cyan-6"];

interface Props {
  phases: PhaseSpan[];
  /** The last phase goes on until now. */
  running: boolean;
}

/** What the job spent its time on: a bar for each attempt, its phases as wide as they took, and their names and times. */
export function PhaseTimeline({ phases, running }: Props) {
  const { t } = useTranslation();
  const attempts = [...new Set(phases.map(({ attempt }) => attempt))];
  const last = phases.at(-1);
  const seconds = (span: PhaseSpan) => (span.end ?? Math.max(span.start, Date.now() / 1000)) - span.start;
  return (
    <Stack gap="sm">
      {attempts.map((attempt) => {
        const own = phases.filter((span) => span.attempt === attempt);
        const total = own.reduce((sum, span) => sum + seconds(span), 0);
        return (
          <Stack key={attempt} gap={4}>
            {attempts.length > 1 && (
              <Text size="xs" c="dimmed" className="figure">
                {t("jobs.attemptTime", { attempt, time: duration(total) })}
              </Text>
            )}
            <Group gap={2} wrap="nowrap" h={10} aria-hidden="true">
              {own.map((span, at) => (
                <Box
                  key={`${span.phase} ${span.start}`}
                  title={`${phaseName(t, span.phase)} ${duration(seconds(span))}`}
                  h="100%"
                  miw={3}
                  bg={`var(--mantine-color-${SHADES[at % SHADES.length]})`}
                  style={{ flex: `${Math.max(seconds(span), total / 200)} 1 0`, borderRadius: 2 }}
                />
              ))}
            </Group>
            <Group gap="md" component="ol" p={0} m={0} style={{ listStyle: "none" }}>
              {own.map((span) => {
                const active = running && span === last;
                return (
                  <Text
                    key={`${span.phase} ${span.start}`}
                    component="li"
                    size="sm"
                    fw={active ? 700 : 400}
                    aria-current={active ? "step" : undefined}
                  >
                    {phaseName(t, span.phase)}
                    {span.end !== null && (
                      <Text span c="dimmed" size="sm" className="figure">
                        {" "}
                        {duration(span.end - span.start)}
                      </Text>
                    )}
                  </Text>
                );
              })}
            </Group>
          </Stack>
        );
      })}
    </Stack>
  );
}

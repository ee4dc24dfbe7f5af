import { Button, Code, Group, ScrollArea, Stack, Text } from "@mantine/core";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import type { JobEvent } from "@/api/types";
import { Section } from "@/components/Section";
import { bytes, clockTime, count } from "@/lib/format";
import { phaseName } from "./phases";
import type { LogLine } from "./record";

const SHOWN = 200;

/** What happened, newest first. */
export function Log({ lines }: { lines: LogLine[] }) {
  const { t } = useTranslation();
  const [all, setAll] = useState(false);
  const shown = (all ? lines : lines.slice(-SHOWN)).toReversed();
  return (
    <Section title={t("jobs.log")}>
      <ScrollArea.Autosize mah={360} viewportProps={{ tabIndex: 0, role: "log", "aria-label": t("jobs.log") }}>
        <Stack gap={2}>
          {shown.map((line) => (
            <Group key={line.event.id} gap="sm" wrap="nowrap" align="baseline">
              <Text span size="xs" c="dimmed" className="figure" style={{ flexShrink: 0 }}>
                {clockTime(line.event.at)}
              </Text>
              <Text span size="sm" c={COLORS[line.kind]} className="breakable">
                <Sentence event={line.event} />
              </Text>
            </Group>
          ))}
        </Stack>
      </ScrollArea.Autosize>
      {!all && lines.length > SHOWN && (
        <Button variant="subtle" size="xs" onClick={() => setAll(true)}>
          {t("jobs.allLines", { count: lines.length })}
        </Button>
      )}
    </Section>
  );
}

const COLORS: Partial<Record<LogLine["kind"], string>> = { error: "red", warning: "orange" };

function Sentence({ event }: { event: JobEvent }) {
  const { t } = useTranslation();
  switch (event.type) {
    case "state": {
      const { state, by, message } = event.data;
      const name = t(`state.${state}`, { defaultValue: state });
      return (
        <>
          {by ? t("jobs.stateBy", { state: name, by }) : name}
          {message && `: ${message}`}
        </>
      );
    }
    case "phase":
      return <>{t("jobs.phaseBegan", { phase: phaseName(t, event.data.phase), attempt: event.attempt })}</>;
    case "checkpoint":
      return <>{t("jobs.checkpoint", { step: count(event.data.step), bytes: bytes(event.data.bytes) })}</>;
    case "log":
      return event.data.message || <Code>{JSON.stringify(event.data)}</Code>;
    default:
      return null; // the curves show these
  }
}

import { Button, Code, Group, ScrollArea, Stack, Text } from "@mantine/core";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Section } from "@/components/Section";
import { bytes, clockTime, count } from "@/lib/format";
import { numberOf, textOf } from "@/lib/tree";
import { phaseName } from "./ProgressPanel";
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
            <Group key={line.id} gap="sm" wrap="nowrap" align="baseline">
              <Text span size="xs" c="dimmed" className="figure" style={{ flexShrink: 0 }}>
                {clockTime(line.at)}
              </Text>
              <Text span size="sm" c={COLORS[line.kind]} className="breakable">
                <Sentence line={line} />
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

function Sentence({ line: { kind, data, attempt } }: { line: LogLine }) {
  const { t } = useTranslation();
  switch (kind) {
    case "state": {
      const message = textOf(data.message);
      const state = textOf(data.state);
      const name = t(`state.${state}` as "state.running", { defaultValue: state });
      const by = textOf(data.by);
      return (
        <>
          {by ? t("jobs.stateBy", { state: name, by }) : name}
          {message && `: ${message}`}
        </>
      );
    }
    case "phase":
      return <>{t("jobs.phaseBegan", { phase: phaseName(t, textOf(data.phase)), attempt })}</>;
    case "checkpoint":
      return <>{t("jobs.checkpoint", { step: count(numberOf(data.step)), bytes: bytes(numberOf(data.bytes)) })}</>;
    default: {
      return textOf(data.message) || <Code>{JSON.stringify(data)}</Code>;
    }
  }
}

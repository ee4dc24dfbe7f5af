import { Button, FileButton, Table, Text } from "@mantine/core";
import { useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { Section } from "@/components/Section";
import { StateBadge } from "@/components/StateBadge";
import { metricName, shown } from "@/features/jobs/report/MeasuresTable";
import { unitOf } from "@/features/jobs/report/read";
import { bytes, percent } from "@/lib/format";
import { type SweepResult, sweepOf } from "./sweep";

/** What `pst sweep` found on another machine; the file is read here and sent nowhere. */
export function SweepFile() {
  const { t } = useTranslation();
  const [file, setFile] = useState<{ name: string; found: SweepResult | null } | null>(null);
  const forget = useRef<() => void>(null);
  const open = async (chosen: File | null) => {
    if (chosen) setFile({ name: chosen.name, found: sweepOf(await chosen.text()) });
    forget.current?.(); // the same file again, which has grown meanwhile
  };
  return (
    <Section
      title={t("sweep.title")}
      note={t("sweep.note")}
      actions={
        <FileButton
          onChange={open}
          resetRef={forget}
          accept=".json,application/json"
          inputProps={{ "aria-label": t("sweep.open") }}
        >
          {(props) => (
            <Button {...props} variant="default" size="xs">
              {t("sweep.open")}
            </Button>
          )}
        </FileButton>
      }
    >
      <div aria-live="polite" className="live">
        {file && !file.found && <Text size="sm">{t("sweep.wrong", { name: file.name })}</Text>}
      </div>
      {file?.found && <Trials sweep={file.found} />}
    </Section>
  );
}

function Trials({ sweep: { metric, names, trials } }: { sweep: SweepResult }) {
  const { t } = useTranslation();
  const unit = unitOf(metric);
  return (
    <>
      <Table.ScrollContainer minWidth={360 + 110 * names.length}>
        <Table aria-label={t("sweep.title")}>
          <Table.Thead>
            <Table.Tr>
              {names.map((name) => (
                <Table.Th key={name} className="mono">
                  {name}
                </Table.Th>
              ))}
              <Table.Th>{t("common.state")}</Table.Th>
              <Table.Th className="number">{t("sweep.share")}</Table.Th>
              <Table.Th className="number">{metricName(t, metric)}</Table.Th>
              <Table.Th className="number">{t("plan.sparsity")}</Table.Th>
              <Table.Th className="number">{t("compare.bytes")}</Table.Th>
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {trials.map((trial) => (
              <Table.Tr key={trial.id} fw={trial.best ? 600 : undefined}>
                {names.map((name) => (
                  <Table.Td key={name} className="figure">
                    {String(trial.values[name] ?? "–")}
                  </Table.Td>
                ))}
                <Table.Td>
                  <StateBadge state={trial.best ? "best" : trial.state} />
                  {trial.error && <Text size="xs">{trial.error}</Text>}
                </Table.Td>
                <Table.Td className="number">{trial.share === null ? "–" : percent(trial.share, 0)}</Table.Td>
                <Table.Td className="number">
                  {trial.metric === null ? "–" : shown(unit, trial.metric)}
                  {trial.interval && (
                    <Text size="xs" c="dimmed" fw={400} className="interval">
                      {shown(unit, trial.interval[0])} … {shown(unit, trial.interval[1])}
                    </Text>
                  )}
                </Table.Td>
                <Table.Td className="number">{trial.sparsity === null ? "–" : percent(trial.sparsity)}</Table.Td>
                <Table.Td className="number">{trial.bytes === null ? "–" : bytes(trial.bytes)}</Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      </Table.ScrollContainer>
      <Text size="xs" c="dimmed">
        {t("sweep.order")}
      </Text>
    </>
  );
}

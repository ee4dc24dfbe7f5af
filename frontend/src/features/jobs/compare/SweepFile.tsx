import { Button, FileButton, Text } from "@mantine/core";
import { useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { DataTable } from "@/components/DataTable";
import { Section } from "@/components/Section";
import { StateBadge } from "@/components/StateBadge";
import { Figure, metricName } from "@/features/jobs/measures/MeasuresTable";
import { unitOf } from "@/features/jobs/measures/measures";
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
      <DataTable
        label={t("sweep.title")}
        rows={trials}
        columns={[
          ...names.map((name) => ({
            name,
            head: <span className="mono">{name}</span>,
            className: "figure",
            cell: ({ values }: SweepResult["trials"][number]) => String(values[name] ?? "–"),
          })),
          {
            name: t("common.state"),
            cell: ({ best, state, error }) => (
              <>
                <StateBadge state={best ? "best" : state} />
                {error && <Text size="xs">{error}</Text>}
              </>
            ),
          },
          { name: t("sweep.share"), className: "number", cell: ({ share }) => percent(share, 0) },
          {
            name: metricName(t, metric),
            className: "number",
            cell: ({ metric: value, interval }) => (
              <Figure unit={unit} value={value === null ? null : { value, interval }} />
            ),
          },
          { name: t("plan.sparsity"), className: "number", cell: ({ sparsity }) => percent(sparsity) },
          { name: t("compare.bytes"), className: "number", cell: (trial) => bytes(trial.bytes) },
        ]}
        keyOf={({ id }) => id}
        isStrong={({ best }) => best}
        minWidth={360 + 110 * names.length}
      />
      <Text size="xs" c="dimmed">
        {t("sweep.order")}
      </Text>
    </>
  );
}

import { Button, SimpleGrid } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { Section } from "@/components/Section";
import { TimeSeries } from "@/components/TimeSeries";
import { zoomGroup } from "@/components/zoom";
import { percent, real } from "@/lib/format";
import { scoreName } from "./ProgressPanel";
import type { JobRecord } from "./record";

const UNIT: [number, number] = [0, 1];
const whole = (share: number) => percent(share, 0);
const tenths = (share: number) => percent(share, 1);

/** The live curves, on one time axis. */
export function Curves({ record, jobId }: { record: JobRecord; jobId: string }) {
  const { t } = useTranslation();
  return (
    <Section
      title={t("jobs.curves")}
      note={t("jobs.curvesNote")}
      actions={
        <Button.Group>
          <Button variant="default" size="compact-sm" onClick={() => zoomGroup(jobId, 0.5)}>
            {t("chart.zoomIn")}
          </Button>
          <Button variant="default" size="compact-sm" onClick={() => zoomGroup(jobId, 2)}>
            {t("chart.zoomOut")}
          </Button>
          <Button variant="default" size="compact-sm" onClick={() => zoomGroup(jobId, 0)}>
            {t("chart.zoomAll")}
          </Button>
        </Button.Group>
      }
    >
      <SimpleGrid cols={{ base: 1, md: 2 }}>
        <TimeSeries title={t("jobs.loss")} times={record.time} values={record.loss} format={real} group={jobId} />
        <TimeSeries
          title={t("jobs.sparsity")}
          times={record.time}
          values={record.sparsity}
          format={whole}
          group={jobId}
          range={UNIT}
        />
        <TimeSeries
          title={scoreName(t, record.scoreName)}
          times={record.scoredAt}
          values={record.score}
          format={tenths}
          group={jobId}
          points
        />
        <TimeSeries title={t("jobs.rate")} times={record.time} values={record.rate} format={real} group={jobId} />
      </SimpleGrid>
    </Section>
  );
}

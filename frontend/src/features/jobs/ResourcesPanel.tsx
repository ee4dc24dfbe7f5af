import { SimpleGrid, Text } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { Section } from "@/components/Section";
import { Stats } from "@/components/Stat";
import { TimeSeries } from "@/components/TimeSeries";
import { bytes, count, percent, real } from "@/lib/format";
import type { JobRecord } from "./record";

const UNIT: [number, number] = [0, 1];
const whole = (share: number) => percent(share, 0);

/** The device that the job runs on, and how busy and how full it is: now, and since the start. */
export function ResourcesPanel({ record, jobId, running }: { record: JobRecord; jobId: string; running: boolean }) {
  const { t } = useTranslation();
  const { resources } = record;
  if (!resources) {
    return (
      <Section title={t("resources.title")}>
        <Text size="sm" c="dimmed">
          {t("resources.none")}
        </Text>
      </Section>
    );
  }
  const { device, memory, memoryTotal, busy, load, cpus, jobMemory, isGpu } = resources;
  return (
    <Section title={t("resources.title")} note={t(running ? "resources.note" : "resources.noteEnded")}>
      <Stats
        figures={[
          { label: t("resources.device"), value: device, note: t("resources.cpus", { count: cpus }) },
          {
            label: t(isGpu ? "resources.deviceMemory" : "resources.memory"),
            value: bytes(memory),
            note: t("resources.of", { total: bytes(memoryTotal) }),
          },
          {
            label: t(isGpu ? "resources.utilisation" : "resources.load"),
            value: isGpu ? percent(busy, 0) : real(load),
            note: isGpu ? t("resources.loadOf", { load: real(load), cpus }) : t("resources.ofCpus", { count: cpus }),
          },
          { label: t("resources.jobMemory"), value: bytes(jobMemory), note: t("resources.jobMemoryNote") },
        ]}
      />
      <SimpleGrid cols={{ base: 1, md: 2 }}>
        <TimeSeries
          title={t("resources.memoryOver", { total: bytes(memoryTotal) })}
          times={record.measuredAt}
          values={record.memory}
          format={bytes}
          range={memoryTotal === null ? undefined : [0, memoryTotal]}
          group={jobId}
          small
        />
        <TimeSeries
          title={t(isGpu ? "resources.utilisation" : "resources.busy")}
          times={record.measuredAt}
          values={record.busy}
          format={whole}
          range={UNIT}
          group={jobId}
          small
        />
      </SimpleGrid>
      <Text size="xs" c="dimmed">
        {t("resources.points", { count: record.measuredAt.length, shown: count(record.measuredAt.length) })}
      </Text>
    </Section>
  );
}

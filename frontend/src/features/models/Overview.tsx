import { Anchor, Text } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import type { Model, Report, Version } from "@/api/types";
import { Section } from "@/components/Section";
import { type Figure, Stats } from "@/components/Stat";
import { bytes, percent, real } from "@/lib/format";
import { nodeAt, numberOf, textOf } from "@/lib/tree";
import { qualityOf } from "./quality";

const MOST = 12;

/** What a version is worth, how large it is and what it says, as far as its report and its manifest tell. */
export function Overview({ model, version, workspace }: { model: Model; version: Version; workspace: string }) {
  const { t } = useTranslation();
  const root = `/w/${workspace}`;
  const own = model.workspace === workspace;
  const quality = qualityOf(version.report);
  const sparsity = numberOf((version.report as Report).sparsity?.reached);
  const dataset = nodeAt(version.manifest, "lineage", "dataset");
  const { dense, compact } = version.bytes;
  const figures: Figure[] = [];
  if (quality) {
    const { metric, interval } = quality;
    const shown = (value: number) => (quality.share ? percent(value) : real(value)).replaceAll(" ", "\u00a0");
    figures.push({
      label: t("report.measures.quality", {
        metric: t(`metricName.${metric}` as "metricName.accuracy", { defaultValue: metric.replaceAll("_", " ") }),
        split: t(`split.${quality.split}`),
      }),
      value: shown(quality.value),
      note: interval && `${shown(interval[0])} … ${shown(interval[1])}`,
    });
  }
  if (compact !== null) {
    figures.push({
      label: t("models.compactSize"),
      value: bytes(compact),
      note: dense !== null && t("models.denseSize", { size: bytes(dense) }),
    });
  } else if (dense !== null) figures.push({ label: t("models.dense"), value: bytes(dense) });
  if (sparsity !== null) {
    figures.push({ label: t("plan.sparsity"), value: percent(sparsity), note: t("plan.ofPrunable") });
  }
  if (textOf(dataset.name)) {
    figures.push({
      label: t("models.datasetName"),
      value:
        own && textOf(dataset.id) ? (
          <Anchor component={Link} to={`${root}/datasets/${textOf(dataset.id)}`} className="breakable">
            {textOf(dataset.name)}
          </Anchor>
        ) : (
          <span className="breakable">{textOf(dataset.name)}</span>
        ),
    });
  }
  const { labels } = version;
  if (figures.length === 0 && labels.length === 0) return null;
  const report = own && version.job_id && (
    <Anchor component={Link} to={`${root}/jobs/${version.job_id}/report`} size="sm">
      {t("models.toReport")}
    </Anchor>
  );
  return (
    <Section title={t("models.overview", { number: version.number })} actions={report || undefined}>
      <Stats figures={figures} />
      {labels.length > 0 && (
        <Text size="sm" className="breakable">
          {t("models.labels")}: {labels.slice(0, MOST).join(", ")}
          {labels.length > MOST && ` ${t("models.moreLabels", { count: labels.length - MOST })}`}
        </Text>
      )}
    </Section>
  );
}

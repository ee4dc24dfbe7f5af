import { Anchor, Group, Text, Timeline } from "@mantine/core";
import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { api } from "@/api/client";
import type { Model, Version } from "@/api/types";
import { Section } from "@/components/Section";
import { StateBadge } from "@/components/StateBadge";
import { AliasBadges } from "./AliasBadges";

/** What a manifest's lineage says of a data set, a model or a job: each may be missing in one that was imported. */
interface Named {
  id?: string;
  name?: string;
  repo?: string;
  commit?: string;
  sha256?: string;
}

function named(lineage: Record<string, unknown>, what: string): Named | null {
  const found = lineage[what];
  if (typeof found === "string") return { name: found };
  return typeof found === "object" && found !== null ? (found as Named) : null;
}

/** From the rows to the nodes that answer: what this version was made of, and where it is now. */
export function Lineage({ model, version, workspace }: { model: Model; version: Version; workspace: string }) {
  const { t } = useTranslation();
  const deployments = api.useQuery("get", "/api/v1/deployments", {
    params: { query: { workspace, model: model.repo, page_size: 200 } },
  });
  const lineage = (version.manifest.lineage ?? {}) as Record<string, unknown>;
  const [dataset, base, job] = ["dataset", "base_model", "job"].map((what) => named(lineage, what));
  const own = model.workspace === workspace;
  const placed = (deployments.data?.results ?? []).flatMap((deployment) =>
    deployment.placements
      .filter((placement) => placement.commit === version.commit)
      .map((placement) => ({ deployment: deployment.name, ...placement })),
  );
  const link = (text: string, to: string | null): ReactNode =>
    to && own ? (
      <Anchor component={Link} to={to} size="sm" className="breakable">
        {text}
      </Anchor>
    ) : (
      <Text span size="sm" className="breakable">
        {text}
      </Text>
    );
  const root = `/w/${workspace}`;
  const hash = (label: string, value: string | undefined) =>
    value && (
      <Text size="xs" c="dimmed" className="mono breakable">
        {label} {value}
      </Text>
    );
  return (
    <Section title={t("models.lineage")} note={t("models.lineageNote")}>
      <Timeline bulletSize={14} lineWidth={2} active={10}>
        {dataset && (
          <Timeline.Item title={t("models.lineageDataset")}>
            {link(dataset.name ?? "–", dataset.id ? `${root}/datasets/${dataset.id}` : null)}
            {hash("sha256", dataset.sha256)}
          </Timeline.Item>
        )}
        {base && (
          <Timeline.Item title={t("models.lineageBase")}>
            {base.repo?.includes("/") ? (
              <Anchor component={Link} to={`${root}/models/${base.repo}`} size="sm" className="breakable">
                {base.repo}
              </Anchor>
            ) : (
              link(base.name ?? base.repo ?? "–", null)
            )}
            {hash(t("models.commit"), base.commit)}
          </Timeline.Item>
        )}
        {(job ?? version.job_id) && (
          <Timeline.Item title={t("models.job")}>
            {link(job?.name ?? t("models.job"), version.job_id ? `${root}/jobs/${version.job_id}` : null)}
          </Timeline.Item>
        )}
        <Timeline.Item title={t("models.lineageVersion", { repo: model.repo, number: version.number })}>
          {hash(t("models.commit"), version.commit)}
          <AliasBadges names={version.aliases} />
        </Timeline.Item>
        <Timeline.Item title={t("models.lineageNodes")}>
          {placed.length === 0 ? (
            <Text size="sm" c="dimmed">
              {t("models.nowhere")}
            </Text>
          ) : (
            placed.map((placement) => (
              <Group key={`${placement.deployment} ${placement.node}`} gap="xs">
                <Text size="sm">
                  {placement.node} · {placement.deployment}
                </Text>
                <StateBadge state={placement.online ? placement.state : "offline"} />
              </Group>
            ))
          )}
        </Timeline.Item>
      </Timeline>
    </Section>
  );
}

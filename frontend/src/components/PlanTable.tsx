import { Button, Group, Stack, Text } from "@mantine/core";
import { useTranslation } from "react-i18next";
import type { JobPlan } from "@/api/types";
import { DataTable } from "@/components/DataTable";
import { Stats } from "@/components/Stat";
import { bytes, compact, count, percent, real } from "@/lib/format";

/** The planner's answer: the whole model in figures, then each group of matrices and what is not pruned. */
export function PlanTable({ plan, onInt8 }: { plan: JobPlan; onInt8?: () => void }) {
  const { t } = useTranslation();
  const ratio = share(plan.sparse_bytes, plan.dense_bytes);
  const pruned = plan.groups.reduce((sum, { nonzeros }) => sum + (nonzeros ?? 0), 0);
  const known = plan.sparse_bytes != null;
  const { time } = plan;
  /** What is not pruned, as a last row. */
  const fixed =
    plan.fixed_bytes == null
      ? undefined
      : {
          name: t("plan.fixed"),
          matrices: undefined,
          sparsity: undefined,
          nonzeros: (plan.nonzero_params ?? 0) - pruned,
          bytes: plan.fixed_bytes,
        };
  return (
    <Stack gap="sm">
      <Stats
        cols={2}
        figures={[
          { label: t("plan.sparsity"), value: percent(plan.sparsity), note: t("plan.ofPrunable") },
          ...(known
            ? [
                {
                  label: t("plan.bytes"),
                  value: bytes(plan.sparse_bytes),
                  note: t("plan.ofDense", { share: percent(ratio), dense: bytes(plan.dense_bytes) }),
                },
                {
                  label: t("plan.nonzero"),
                  value: compact(plan.nonzero_params),
                  note: t("plan.ofTotal", { total: compact(plan.total_params) }),
                },
                {
                  label: t("plan.memory"),
                  value: bytes(plan.memory_bytes),
                  note: t("plan.ofDense", {
                    share: percent(share(plan.memory_bytes, plan.dense_memory_bytes)),
                    dense: bytes(plan.dense_memory_bytes),
                  }),
                },
              ]
            : []),
          ...(time
            ? [
                {
                  label: t("plan.latency", { node: time.node }),
                  value: `${real(time.latency_ms, 3)} ms`,
                  note: t("plan.input", { rows: count(time.rows), tokens: count(time.tokens) }),
                },
                {
                  label: t("plan.speedup"),
                  value: `${time.speedup.toFixed(2)} ×`,
                  note: t("plan.denseLatency", { value: `${real(time.dense_latency_ms, 3)} ms` }),
                },
              ]
            : []),
        ]}
      />
      <DataTable
        label={t("plan.groups")}
        rows={[...plan.groups, ...(fixed ? [fixed] : [])]}
        columns={[
          { name: t("plan.group"), cell: ({ name }) => name, foot: fixed && t("plan.sum") },
          known && {
            name: t("plan.matrices"),
            className: "number",
            cell: (group) => group !== fixed && count(group.matrices),
          },
          { name: t("plan.sparsity"), className: "number", cell: ({ sparsity }) => percent(sparsity) },
          known && {
            name: t("plan.kept"),
            className: "number",
            cell: ({ nonzeros }) => compact(nonzeros),
            foot: fixed && compact(plan.nonzero_params),
          },
          known && {
            name: t("plan.size"),
            className: "number",
            cell: (group) => bytes(group.bytes),
            foot: fixed && bytes(plan.sparse_bytes),
          },
        ]}
        keyOf={({ name }) => name}
        minWidth={300}
        verticalSpacing={4}
        horizontalSpacing={6}
      />
      {plan.int8_embeddings_bytes != null && (
        <Group gap="xs">
          <Text size="sm">{t("plan.int8", { size: bytes(plan.int8_embeddings_bytes) })}</Text>
          {onInt8 && (
            <Button variant="default" size="compact-sm" onClick={onInt8}>
              {t("plan.int8Switch")}
            </Button>
          )}
        </Group>
      )}
      {plan.training_gpu_bytes != null && (
        <Text size="sm" c="dimmed">
          {t("plan.trains", { value: compact(plan.trainable_params) })}{" "}
          {t("plan.training", { gpu: bytes(plan.training_gpu_bytes), cpu: bytes(plan.training_memory_bytes) })}
        </Text>
      )}
      {plan.notes?.map((note) => (
        <Text key={note} size="sm" c="dimmed">
          {note}
        </Text>
      ))}
    </Stack>
  );
}

function share(part: number | null | undefined, whole: number | null | undefined): number | null {
  return part && whole ? part / whole : null;
}

import { Stack, Table, Text } from "@mantine/core";
import { useTranslation } from "react-i18next";
import type { JobPlan } from "@/api/types";
import { Stats } from "@/components/Stat";
import { bytes, compact, count, percent, real } from "@/lib/format";

/** The planner's answer: the whole model in figures, then each group of matrices. */
export function PlanTable({ plan }: { plan: JobPlan }) {
  const { t } = useTranslation();
  const ratio = plan.sparse_bytes && plan.dense_bytes ? plan.sparse_bytes / plan.dense_bytes : null;
  const known = plan.sparse_bytes != null;
  const { time } = plan;
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
                  note: t("plan.trainable", { value: compact(plan.trainable_params) }),
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
      <Table.ScrollContainer minWidth={300}>
        <Table aria-label={t("plan.groups")} verticalSpacing={4} horizontalSpacing={6}>
          <Table.Thead>
            <Table.Tr>
              <Table.Th>{t("plan.group")}</Table.Th>
              {known && <Table.Th className="number">{t("plan.matrices")}</Table.Th>}
              <Table.Th className="number">{t("plan.sparsity")}</Table.Th>
              {known && <Table.Th className="number">{t("plan.kept")}</Table.Th>}
              {known && <Table.Th className="number">{t("plan.size")}</Table.Th>}
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {plan.groups.map((group) => (
              <Table.Tr key={group.name}>
                <Table.Td>{group.name}</Table.Td>
                {known && <Table.Td className="number">{count(group.matrices)}</Table.Td>}
                <Table.Td className="number">{percent(group.sparsity)}</Table.Td>
                {known && <Table.Td className="number">{compact(group.nonzeros)}</Table.Td>}
                {known && <Table.Td className="number">{bytes(group.bytes)}</Table.Td>}
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      </Table.ScrollContainer>
      {plan.training_gpu_bytes != null && (
        <Text size="sm" c="dimmed">
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

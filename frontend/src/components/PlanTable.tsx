import { Button, Group, Stack, Table, Text } from "@mantine/core";
import { useTranslation } from "react-i18next";
import type { JobPlan } from "@/api/types";
import { Stats } from "@/components/Stat";
import { bytes, compact, count, percent, real } from "@/lib/format";

/** The planner's answer: the whole model in figures, then each group of matrices and what is not pruned. */
export function PlanTable({ plan, onInt8 }: { plan: JobPlan; onInt8?: () => void }) {
  const { t } = useTranslation();
  const ratio = share(plan.sparse_bytes, plan.dense_bytes);
  const pruned = plan.groups.reduce((sum, { nonzeros }) => sum + (nonzeros ?? 0), 0);
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
            {plan.fixed_bytes != null && (
              <Table.Tr>
                <Table.Td>{t("plan.fixed")}</Table.Td>
                <Table.Td />
                <Table.Td className="number">–</Table.Td>
                <Table.Td className="number">{compact((plan.nonzero_params ?? 0) - pruned)}</Table.Td>
                <Table.Td className="number">{bytes(plan.fixed_bytes)}</Table.Td>
              </Table.Tr>
            )}
          </Table.Tbody>
          {plan.fixed_bytes != null && (
            <Table.Tfoot>
              <Table.Tr>
                <Table.Th>{t("plan.sum")}</Table.Th>
                <Table.Th />
                <Table.Th />
                <Table.Th className="number">{compact(plan.nonzero_params)}</Table.Th>
                <Table.Th className="number">{bytes(plan.sparse_bytes)}</Table.Th>
              </Table.Tr>
            </Table.Tfoot>
          )}
        </Table>
      </Table.ScrollContainer>
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

import { Anchor, Group, Table, Text } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { api } from "@/api/client";
import type { Job } from "@/api/types";
import { Loaded } from "@/components/Loaded";
import { Section } from "@/components/Section";
import { bytes, compact, duration, percent } from "@/lib/format";
import { cardOf } from "./card";
import { phaseName } from "./ProgressPanel";

/** The result: the sparse model beside the dense one. */
export function Report({ job }: { job: Job }) {
  const { t } = useTranslation();
  const query = api.useQuery(
    "get",
    "/api/v1/jobs/{job_id}/report",
    { params: { path: { job_id: job.id } } },
    { staleTime: Number.POSITIVE_INFINITY },
  );
  return (
    <Section
      title={t("report.title")}
      actions={
        <Anchor href={`/api/v1/jobs/${job.id}/report`} download={`${job.name}.report.json`} size="sm">
          {t("report.json")}
        </Anchor>
      }
    >
      <Loaded query={query}>{(report) => <Card report={report} />}</Loaded>
    </Section>
  );
}

function Card({ report }: { report: unknown }) {
  const { t } = useTranslation();
  const card = cardOf(report);
  const points = ({ dense, sparse }: { dense: number | null; sparse: number | null }) =>
    dense === null || sparse === null ? "–" : t("report.points", { value: signed(100 * (sparse - dense)) });
  const rows: [name: string, dense: string, sparse: string, change: string][] = [
    [
      t("report.accuracy", { split: t(`split.${card.split}`) }),
      percent(card.accuracy.dense),
      percent(card.accuracy.sparse),
      points(card.accuracy),
    ],
    [t("report.macroF1"), percent(card.macroF1.dense), percent(card.macroF1.sparse), points(card.macroF1)],
    [
      t("report.params"),
      compact(card.params.total),
      compact(card.params.nonzero),
      change(card.params.total, card.params.nonzero),
    ],
    [t("report.bytes"), bytes(card.bytes.dense), bytes(card.bytes.sparse), change(card.bytes.dense, card.bytes.sparse)],
    [t("report.sparsity"), percent(0), percent(card.sparsity.reached, 2), ""],
  ];
  return (
    <>
      <Table.ScrollContainer minWidth={340}>
        <Table aria-label={t("report.title")} data-testid="report">
          <Table.Thead>
            <Table.Tr>
              <Table.Th>{t("report.measure")}</Table.Th>
              <Table.Th className="number">{t("report.dense")}</Table.Th>
              <Table.Th className="number">{t("report.sparse")}</Table.Th>
              <Table.Th className="number">{t("report.change")}</Table.Th>
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {rows.map(([name, dense, sparse, difference]) => (
              <Table.Tr key={name}>
                <Table.Th scope="row" fw={400}>
                  {name}
                </Table.Th>
                <Table.Td className="number">{dense}</Table.Td>
                <Table.Td className="number" fw={600}>
                  {sparse}
                </Table.Td>
                <Table.Td className="number">{difference}</Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      </Table.ScrollContainer>
      <Group gap="md">
        {card.accuracy.interval && (
          <Text size="sm" c="dimmed">
            {t("report.interval", {
              low: percent(card.accuracy.interval[0]),
              high: percent(card.accuracy.interval[1]),
            })}
          </Text>
        )}
        {card.agreement !== null && (
          <Text size="sm" c="dimmed">
            {t("report.agreement", { share: percent(card.agreement) })}
          </Text>
        )}
        {card.seconds.length > 0 && (
          <Text size="sm" c="dimmed">
            {t("report.time", {
              total: duration(card.seconds.reduce((sum, [, seconds]) => sum + seconds, 0)),
              phases: card.seconds.map(([phase, seconds]) => `${phaseName(t, phase)} ${duration(seconds)}`).join(", "),
            })}
          </Text>
        )}
      </Group>
    </>
  );
}

function signed(value: number): string {
  return `${value > 0 ? "+" : value < 0 ? "−" : "±"}${Math.abs(value).toFixed(1)}`;
}

function change(dense: number | null, sparse: number | null): string {
  return dense && sparse !== null ? `${signed((100 * (sparse - dense)) / dense)} %` : "–";
}

import { Box, Paper, SimpleGrid, Stack, Text } from "@mantine/core";
import { type ReactNode, useId } from "react";
import { useTranslation } from "react-i18next";
import { Pager, useListAddress } from "@/components/listing";
import { Section } from "@/components/Section";
import { count } from "@/lib/format";
import type { Sample } from "./read";

const SIZE = 5;

/** What the model wrote: for each source its references, its own text, and the dense model's. */
export function SamplesSection({ samples }: { samples: readonly Sample[] }) {
  const { t } = useTranslation();
  const { page, set } = useListAddress();
  const shown = Math.min(page, Math.ceil(samples.length / SIZE));
  const first = (shown - 1) * SIZE;
  return (
    <Section title={t("report.samples")} note={t("report.samplesNote", { count: samples.length })}>
      <Stack component="ol" gap="sm" m={0} p={0} style={{ listStyle: "none" }}>
        {samples.slice(first, first + SIZE).map((sample, place) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: a source may stand in the list more than once
          <Paper key={first + place} component="li" withBorder radius="md" p="sm">
            <Stack gap="sm">
              <Labelled label={t("report.source", { number: count(first + place + 1) })}>
                <Written text={sample.source ?? ""} />
              </Labelled>
              <SimpleGrid cols={{ base: 1, sm: 2 }} spacing="sm">
                <Labelled label={t("report.sparseWrote")}>
                  <Written text={sample.text ?? ""} />
                </Labelled>
                <Labelled label={t("report.denseWrote")}>
                  <Written text={sample.dense ?? ""} same={sample.dense === sample.text && sample.text !== ""} />
                </Labelled>
              </SimpleGrid>
              <Labelled label={t("report.references", { count: sample.references?.length ?? 0 })}>
                {sample.references?.map((text) => (
                  <Written key={text} text={text} />
                ))}
              </Labelled>
            </Stack>
          </Paper>
        ))}
      </Stack>
      <Pager count={samples.length} page={shown} pageSize={SIZE} onPage={(next) => set("page", String(next))} />
    </Section>
  );
}

function Labelled({ label, children }: { label: string; children: ReactNode }) {
  const id = useId();
  return (
    <Box role="group" aria-labelledby={id} miw={0}>
      <Text id={id} size="xs" c="dimmed">
        {label}
      </Text>
      {children}
    </Box>
  );
}

/** A text as it was written, line breaks included. */
function Written({ text, same = false }: { text: string; same?: boolean }) {
  const { t } = useTranslation();
  const note = same ? t("report.sameText") : text.trim() === "" ? t("report.nothingWritten") : "";
  return note ? (
    <Text size="sm" c="dimmed">
      {note}
    </Text>
  ) : (
    <Text size="sm" className="breakable" style={{ whiteSpace: "pre-wrap" }}>
      {text}
    </Text>
  );
}

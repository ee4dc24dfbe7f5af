import { Button, FileInput, Group, NumberInput, Progress, SimpleGrid, Stack, Text, TextInput } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { type FormEvent, useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { useNavigate } from "react-router";
import { client, reload } from "@/api/client";
import type { DatasetFromUploads } from "@/api/types";
import { sendFile } from "@/api/upload";
import { ErrorNote } from "@/components/ErrorNote";
import { FileDrop } from "@/components/FileDrop";
import { Loaded } from "@/components/Loaded";
import { Page } from "@/components/Page";
import { Section } from "@/components/Section";
import { bytes, percent } from "@/lib/format";
import { useWorkspace } from "@/session/session";
import { PreviewTable } from "./PreviewTable";
import { ReadingFields } from "./ReadingFields";
import { AUTOMATIC, beginning, type Reading, readingFields, stem } from "./reading";
import { Unfinished } from "./Unfinished";

function usePreview(file: File | null, { task, format, encoding, delimiter, header }: Reading) {
  const options = { ...AUTOMATIC, task, format, encoding, delimiter, header };
  return useQuery({
    queryKey: ["preview", file?.name, file?.size, file?.lastModified, options],
    enabled: file !== null,
    placeholderData: keepPreviousData,
    staleTime: Number.POSITIVE_INFINITY,
    queryFn: async ({ signal }) => {
      const form = new FormData();
      if (file) form.append("file", await beginning(file), file.name);
      for (const [name, value] of readingFields(options)) form.append(name, value);
      const { data, error } = await client.POST("/api/v1/datasets/preview", {
        body: form as never,
        bodySerializer: (body: unknown) => body as FormData,
        signal,
      });
      if (error) throw error;
      return data;
    },
  });
}

export function Component() {
  const { t } = useTranslation();
  const { slug } = useWorkspace();
  const navigate = useNavigate();
  const [file, setFile] = useState<File | null>(null);
  const [validation, setValidation] = useState<File | null>(null);
  const [test, setTest] = useState<File | null>(null);
  const [name, setName] = useState("");
  const [share, setShare] = useState<number | string>(20);
  const [seed, setSeed] = useState<number | string>(42);
  const [reading, setReading] = useState(AUTOMATIC);
  const [sent, setSent] = useState<{ sent: number; total: number } | null>(null);
  const [error, setError] = useState<unknown>(null);
  const abort = useRef<AbortController | null>(null);
  const arrived = useRef(new Map<File, string>());
  useEffect(() => () => abort.current?.abort(), []);

  const preview = usePreview(file, reading);
  const suggested = preview.data?.suggested;
  const roles = {
    text: reading.text_column || suggested?.text_column || "",
    pair: reading.text_pair_column || suggested?.text_pair_column || "",
    label: reading.label_column || suggested?.label_column || "",
  };

  const choose = (chosen: File) => {
    // A name that was typed stays; one that came from the former file goes with it.
    setName((before) => (before && before !== (file && stem(file.name)) ? before : stem(chosen.name)));
    setFile(chosen);
    setReading(AUTOMATIC);
    setError(null);
  };

  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (!file) return;
    const files = { upload: file, validation_upload: validation, test_upload: test };
    const wanted = Object.values(files).filter((entry) => entry !== null);
    const columns = { text_column: roles.text, text_pair_column: roles.pair, label_column: roles.label };
    const controller = new AbortController();
    abort.current = controller;
    setError(null);
    const total = wanted.reduce((sum, { size }) => sum + size, 0);
    setSent({ sent: 0, total });
    const run = async () => {
      const ids: Partial<Record<keyof typeof files, string>> = {};
      let before = 0;
      for (const [field, entry] of Object.entries(files)) {
        if (!entry) continue;
        // A file that is there already is not sent again when only the options were refused.
        const id =
          arrived.current.get(entry) ??
          (await sendFile(entry, slug, (done) => setSent({ sent: before + done, total }), controller.signal));
        arrived.current.set(entry, id);
        ids[field as keyof typeof files] = id;
        before += entry.size;
      }
      const { data, error: refused } = await client.POST("/api/v1/datasets", {
        body: {
          workspace: slug,
          name,
          ...Object.fromEntries(readingFields({ ...reading, ...columns })),
          ...(validation ? {} : { validation_share: Number(share) / 100, seed: Number(seed) }),
          ...ids,
        } as DatasetFromUploads,
        signal: controller.signal,
      });
      if (refused) throw refused;
      await reload("/api/v1/datasets");
      await navigate(`/w/${slug}/datasets/${data.id}`);
    };
    run().catch((problem: unknown) => {
      setSent(null);
      if (!(problem instanceof DOMException)) setError(problem);
    });
  };

  return (
    <Page title={t("datasets.upload")} above={[{ label: t("datasets.title"), to: `/w/${slug}/datasets` }]}>
      <form onSubmit={submit}>
        <Stack gap="lg">
          {!file && <Unfinished workspace={slug} />}
          <Section title={t("datasets.fileTitle")} note={t("datasets.fileNote")}>
            <FileDrop
              label={t("datasets.trainFile")}
              title={file ? `${file.name} · ${bytes(file.size)}` : t("datasets.drop")}
              note={file ? t("datasets.dropOther") : t("datasets.dropNote")}
              onFile={choose}
            />
            <SimpleGrid cols={{ base: 1, sm: 2 }}>
              <FileInput
                label={t("datasets.validationFile")}
                description={t("datasets.validationFileNote")}
                placeholder={t("datasets.noFile")}
                value={validation}
                onChange={setValidation}
                clearable
              />
              <FileInput
                label={t("datasets.testFile")}
                description={t("datasets.testFileNote")}
                placeholder={t("datasets.noFile")}
                value={test}
                onChange={setTest}
                clearable
              />
            </SimpleGrid>
          </Section>

          {file && (
            <Section title={t("datasets.readingTitle")} note={t("datasets.readingNote")}>
              <ReadingFields
                reading={reading}
                onChange={setReading}
                columns={preview.data?.columns ?? []}
                found={
                  preview.data && {
                    format: preview.data.format,
                    encoding: preview.data.encoding,
                    delimiter: preview.data.delimiter ?? "",
                    header: String(preview.data.header),
                    text_column: suggested?.text_column ?? "",
                    text_pair_column: suggested?.text_pair_column ?? "",
                    label_column: suggested?.label_column ?? "",
                  }
                }
              />
              {/* As high as ten rows: what stands below stays where it is when they arrive. */}
              <Loaded query={{ data: preview.error ? undefined : preview.data, error: preview.error }} lines={14}>
                {(data) => <PreviewTable columns={data.columns} rows={data.rows} roles={roles} />}
              </Loaded>
            </Section>
          )}

          {file && (
            <Section title={t("datasets.keepTitle")}>
              <SimpleGrid cols={{ base: 1, sm: 3 }}>
                <TextInput
                  label={t("datasets.name")}
                  value={name}
                  maxLength={100}
                  required
                  onChange={(event) => setName(event.currentTarget.value)}
                />
                {!validation && (
                  <>
                    <NumberInput
                      label={t("datasets.share")}
                      suffix=" %"
                      min={1}
                      max={50}
                      value={share}
                      onChange={setShare}
                    />
                    <NumberInput
                      label={t("datasets.seed")}
                      min={0}
                      allowDecimal={false}
                      value={seed}
                      onChange={setSeed}
                    />
                  </>
                )}
              </SimpleGrid>
              {error != null && (
                <ErrorNote
                  error={error}
                  title={error instanceof TypeError ? t("datasets.stopped") : t("datasets.notUploaded")}
                />
              )}
              {sent && (
                <Stack gap={4}>
                  <Progress
                    value={(100 * sent.sent) / Math.max(1, sent.total)}
                    aria-label={t("datasets.progress")}
                    animated
                  />
                  <Text size="sm" c="dimmed" className="figure">
                    {t("datasets.sent", {
                      sent: bytes(sent.sent),
                      total: bytes(sent.total),
                      share: percent(sent.sent / Math.max(1, sent.total), 0),
                    })}
                  </Text>
                </Stack>
              )}
              <Group>
                <Button type="submit" loading={sent !== null}>
                  {error instanceof TypeError ? t("datasets.uploadOn") : t("datasets.uploadDo")}
                </Button>
                {sent && (
                  <Button variant="default" onClick={() => abort.current?.abort()}>
                    {t("datasets.stopUpload")}
                  </Button>
                )}
              </Group>
            </Section>
          )}
        </Stack>
      </form>
    </Page>
  );
}

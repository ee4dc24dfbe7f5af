import { Button, FileInput, Group, NumberInput, Progress, SimpleGrid, Stack, Text, TextInput } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { type FormEvent, useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { useNavigate } from "react-router";
import { client, reload } from "@/api/client";
import type { Dataset } from "@/api/types";
import { upload } from "@/api/upload";
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

function usePreview(file: File | null, { format, encoding, delimiter, header }: Reading) {
  const options = { ...AUTOMATIC, format, encoding, delimiter, header };
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
    const form = new FormData();
    form.append("file", file, file.name);
    if (validation) form.append("validation_file", validation, validation.name);
    if (test) form.append("test_file", test, test.name);
    form.append("workspace", slug);
    form.append("name", name);
    const columns = { text_column: roles.text, text_pair_column: roles.pair, label_column: roles.label };
    for (const [field, value] of readingFields({ ...reading, ...columns })) form.append(field, value);
    if (!validation) {
      form.append("validation_share", String(Number(share) / 100));
      form.append("seed", String(seed));
    }
    abort.current = new AbortController();
    setError(null);
    setSent({ sent: 0, total: file.size });
    upload<Dataset>(
      "/api/v1/datasets",
      form,
      (done, total) => setSent({ sent: done, total }),
      abort.current.signal,
    ).then(
      async (dataset) => {
        await reload("/api/v1/datasets");
        await navigate(`/w/${slug}/datasets/${dataset.id}`);
      },
      (problem: unknown) => {
        setSent(null);
        if (!(problem instanceof DOMException)) setError(problem);
      },
    );
  };

  return (
    <Page title={t("datasets.upload")} above={[{ label: t("datasets.title"), to: `/w/${slug}/datasets` }]}>
      <form onSubmit={submit}>
        <Stack gap="lg">
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
              <Loaded query={{ data: preview.error ? undefined : preview.data, error: preview.error }}>
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
              {error != null && <ErrorNote error={error} title={t("datasets.notUploaded")} />}
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
                  {t("datasets.uploadDo")}
                </Button>
                {sent && (
                  <Button variant="default" onClick={() => abort.current?.abort()}>
                    {t("common.cancel")}
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

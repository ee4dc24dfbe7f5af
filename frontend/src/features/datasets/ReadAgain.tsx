import { Button, Modal } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { api, reload } from "@/api/client";
import type { Dataset } from "@/api/types";
import { Form } from "@/components/Form";
import { ReadingFields } from "./ReadingFields";
import { AUTOMATIC, type Reading, taskOf } from "./reading";

/** Changes how the uploaded files are read, and validates them again. */
export function ReadAgain({ dataset }: { dataset: Dataset }) {
  const { t } = useTranslation();
  const [opened, { open, close }] = useDisclosure(false);
  const texts = (values: Record<string, unknown>) =>
    Object.fromEntries(
      Object.keys(AUTOMATIC)
        .filter((name) => values[name] !== null && values[name] !== undefined)
        .map((name) => [name, String(values[name])]),
    ) as Partial<Reading>;
  const [reading, setReading] = useState<Reading>({ ...AUTOMATIC, ...texts(dataset.options) });
  // A separator is one character or is not said.
  const { label_separator, task, ...others } = reading;
  const body = { ...others, task: taskOf(reading), ...(label_separator ? { label_separator } : {}) };
  const change = api.useMutation("patch", "/api/v1/datasets/{dataset_id}", {
    onSuccess: async () => {
      await reload("/api/v1/datasets");
      close();
    },
  });
  return (
    <>
      <Button variant="default" onClick={open}>
        {t("datasets.readAgain")}
      </Button>
      <Modal opened={opened} onClose={close} title={t("datasets.readAgain")} size="xl">
        <Form
          label={t("datasets.readAgainDo")}
          onSubmit={() => change.mutate({ params: { path: { dataset_id: dataset.id } }, body: body as never })}
          request={change}
          onCancel={close}
        >
          <ReadingFields
            reading={reading}
            onChange={setReading}
            found={texts(dataset.found)}
            columns={dataset.report.columns ?? []}
          />
        </Form>
      </Modal>
    </>
  );
}

import { Accordion, Stack } from "@mantine/core";
import { useTranslation } from "react-i18next";
import type { JobSubmission } from "@/api/types";
import { CopyBlock } from "@/components/CopyBlock";
import { asCommand, asCurl } from "./request";

/** What the button would send, for a terminal. */
export function RequestSnippets({ request }: { request: JobSubmission }) {
  const { t } = useTranslation();
  return (
    <Accordion variant="separated">
      <Accordion.Item value="snippets">
        <Accordion.Control>{t("jobs.form.asCommand")}</Accordion.Control>
        <Accordion.Panel>
          <Stack>
            <CopyBlock label="pst submit" text={asCommand(request)} />
            <CopyBlock label="curl" text={asCurl(window.location.origin, request)} />
          </Stack>
        </Accordion.Panel>
      </Accordion.Item>
    </Accordion>
  );
}

import { NumberInput, Select } from "@mantine/core";
import { useTranslation } from "react-i18next";
import type { useForm } from "./Form";

/** What a deployment follows, and on how many nodes it answers. */
export type DeploymentChoice = { revision: string; replicas: string | number };

interface Props {
  fields: Pick<ReturnType<typeof useForm<DeploymentChoice>>, "choice" | "number">;
  revisions: { value: string; label: string }[];
}

/** The fields that a new deployment and a changed one share. */
export function DeploymentFields({ fields, revisions }: Props) {
  const { t } = useTranslation();
  return (
    <>
      <Select
        label={t("models.revision")}
        description={t("models.revisionNote")}
        data={revisions}
        {...fields.choice("revision")}
      />
      <NumberInput label={t("models.replicas")} min={1} allowDecimal={false} {...fields.number("replicas")} />
    </>
  );
}

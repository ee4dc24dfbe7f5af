import { Button, Group, Modal, Stack, TextInput } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { type FormEvent, useState } from "react";
import { useTranslation } from "react-i18next";
import { useNavigate } from "react-router";
import { api, reload } from "@/api/client";
import type { Model } from "@/api/types";
import { type DeploymentChoice, DeploymentFields } from "@/components/DeploymentFields";
import { ErrorNote } from "@/components/ErrorNote";
import { useWorkspace } from "@/session/session";

/** Has serving nodes answer with this model. */
export function Deploy({ model }: { model: Model }) {
  const { t } = useTranslation();
  const { slug } = useWorkspace();
  const navigate = useNavigate();
  const [opened, { open, close }] = useDisclosure(false);
  const numbers = new Set([model.latest?.number, ...model.aliases.map(({ version }) => version)]);
  const revisions = [
    ...[...numbers].flatMap((number) =>
      number === undefined ? [] : [{ value: `v${number}`, label: t("models.fixed", { number }) }],
    ),
    ...model.aliases.map(({ name, version }) => ({
      value: name,
      label: t("models.follows", { alias: name, number: version }),
    })),
  ];
  // A version that is published later must not go live by itself unless that was asked for.
  const [choice, setChoice] = useState<DeploymentChoice>({ revision: revisions[0]?.value ?? "", replicas: 1 });
  const [name, setName] = useState(model.name);
  const create = api.useMutation("post", "/api/v1/deployments", {
    onSuccess: async () => {
      await reload("/api/v1/deployments", "/api/v1/nodes");
      await navigate(`/w/${slug}/serving`);
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    const { revision, replicas } = choice;
    create.mutate({ body: { workspace: slug, name, model: model.repo, revision, replicas: Number(replicas) } });
  };
  return (
    <>
      <Button onClick={open}>{t("models.deploy")}</Button>
      <Modal opened={opened} onClose={close} title={t("models.deployTitle", { repo: model.repo })} centered>
        <form onSubmit={submit}>
          <Stack>
            <TextInput
              label={t("models.deploymentName")}
              value={name}
              required
              onChange={(event) => setName(event.currentTarget.value)}
            />
            <DeploymentFields value={choice} onChange={setChoice} revisions={revisions} />
            {create.error && <ErrorNote error={create.error} />}
            <Group justify="flex-end">
              <Button variant="default" onClick={close}>
                {t("common.cancel")}
              </Button>
              <Button type="submit" loading={create.isPending}>
                {t("models.deploy")}
              </Button>
            </Group>
          </Stack>
        </form>
      </Modal>
    </>
  );
}

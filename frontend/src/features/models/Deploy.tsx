import { Button, Modal, TextInput } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useTranslation } from "react-i18next";
import { useNavigate } from "react-router";
import { api, reload } from "@/api/client";
import type { Model } from "@/api/types";
import { DeploymentFields } from "@/components/DeploymentFields";
import { Form, useForm } from "@/components/Form";
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
  const create = api.useMutation("post", "/api/v1/deployments", {
    onSuccess: async () => {
      await reload("/api/v1/deployments", "/api/v1/nodes");
      await navigate(`/w/${slug}/serving`);
    },
  });
  // A version that is published later must not go live by itself unless that was asked for.
  const fields = useForm({ name: model.name, revision: revisions[0]?.value ?? "", replicas: 1 }, create.error);
  const { name, revision, replicas } = fields.values;
  const submit = () =>
    create.mutate({ body: { workspace: slug, name, model: model.repo, revision, replicas: Number(replicas) } });
  return (
    <>
      <Button onClick={open}>{t("models.deploy")}</Button>
      <Modal opened={opened} onClose={close} title={t("models.deployTitle", { repo: model.repo })} centered>
        <Form label={t("models.deploy")} onSubmit={submit} request={create} onCancel={close}>
          <TextInput label={t("models.deploymentName")} {...fields.text("name")} />
          <DeploymentFields fields={fields} revisions={revisions} />
        </Form>
      </Modal>
    </>
  );
}

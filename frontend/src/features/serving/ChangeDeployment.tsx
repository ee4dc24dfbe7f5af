import { Button, Modal } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useTranslation } from "react-i18next";
import { api, reload } from "@/api/client";
import type { Deployment } from "@/api/types";
import { type DeploymentChoice, DeploymentFields } from "@/components/DeploymentFields";
import { Form, useForm } from "@/components/Form";

/** Another revision, or more or fewer nodes. */
export function ChangeDeployment({ deployment }: { deployment: Deployment }) {
  const { t } = useTranslation();
  const [opened, { open, close }] = useDisclosure(false);
  const { revision, replicas } = deployment;
  const [namespace = "", name = ""] = deployment.model.split("/");
  const path = { namespace, name };
  const model = api.useQuery("get", "/api/v1/models/{namespace}/{name}", { params: { path } }, { enabled: opened });
  const versions = api.useQuery(
    "get",
    "/api/v1/models/{namespace}/{name}/versions",
    { params: { path, query: { page_size: 200 } } },
    { enabled: opened },
  );
  const change = api.useMutation("patch", "/api/v1/deployments/{deployment_id}", {
    onSuccess: async () => {
      await reload("/api/v1/deployments", "/api/v1/nodes");
      close();
    },
  });
  const options = new Map([
    [revision, revision],
    ...(model.data?.aliases ?? []).map(
      ({ name: alias, version }) => [alias, t("models.follows", { alias, number: version })] as const,
    ),
    ...(versions.data?.results ?? []).map(({ number }) => [`v${number}`, t("models.fixed", { number })] as const),
  ]);
  const fields = useForm<DeploymentChoice>({ revision, replicas }, change.error);
  const submit = () =>
    change.mutate({
      params: { path: { deployment_id: deployment.id } },
      body: { revision: fields.values.revision, replicas: Number(fields.values.replicas) },
    });
  return (
    <>
      <Button variant="default" size="xs" onClick={open}>
        {t("serving.change")}
      </Button>
      <Modal opened={opened} onClose={close} title={t("serving.changeTitle", { name: deployment.name })} centered>
        <Form label={t("serving.change")} onSubmit={submit} request={change} onCancel={close}>
          <DeploymentFields fields={fields} revisions={[...options].map(([value, label]) => ({ value, label }))} />
        </Form>
      </Modal>
    </>
  );
}

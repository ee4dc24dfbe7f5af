import { Text, TextInput } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { api } from "@/api/client";
import { Form, useForm } from "@/components/Form";
import { PasswordField } from "@/components/PasswordField";
import { Section } from "@/components/Section";

/** Whoever runs the installation makes accounts; owners then let them into their workspaces. */
export function NewAccount() {
  const { t } = useTranslation();
  const create = api.useMutation("post", "/api/v1/users");
  const { values, text, clear } = useForm({ username: "", password: "" }, create.error);
  return (
    <Section title={t("members.account")} note={t("members.accountNote")}>
      <Form
        label={t("members.accountMake")}
        onSubmit={() => create.mutate({ body: values }, { onSuccess: () => clear("username", "password") })}
        request={create}
        inline
        quiet
        note={
          <Text size="sm" role="status">
            {create.isSuccess && t("members.accountMade", { name: create.data.username })}
          </Text>
        }
      >
        <TextInput label={t("members.accountName")} autoComplete="off" {...text("username")} />
        <PasswordField label={t("members.accountPassword")} autoComplete="new-password" {...text("password")} w={240} />
      </Form>
    </Section>
  );
}

import { Text } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { api } from "@/api/client";
import { Form, useForm } from "@/components/Form";
import { PasswordField } from "@/components/PasswordField";
import { Section } from "@/components/Section";

export function PasswordForm() {
  const { t } = useTranslation();
  const change = api.useMutation("put", "/api/v1/me/password");
  const { values, text, clear } = useForm({ current_password: "", new_password: "" }, change.error);
  return (
    <Section title={t("settings.password")} note={t("settings.passwordNote")}>
      <Form
        label={t("settings.changePassword")}
        onSubmit={() => change.mutate({ body: values }, { onSuccess: () => clear("current_password", "new_password") })}
        request={change}
        inline
        quiet
        note={
          <Text size="sm" role="status">
            {change.isSuccess && t("settings.passwordChanged")}
          </Text>
        }
      >
        <PasswordField
          label={t("settings.currentPassword")}
          autoComplete="current-password"
          {...text("current_password")}
          w={240}
        />
        <PasswordField
          label={t("settings.newPassword")}
          autoComplete="new-password"
          {...text("new_password")}
          w={240}
        />
      </Form>
    </Section>
  );
}

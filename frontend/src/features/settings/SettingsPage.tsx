import { Alert, Select, Stack, Tabs, Text, TextInput } from "@mantine/core";
import { keepPreviousData } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { useSearchParams } from "react-router";
import { api, reload } from "@/api/client";
import type { IssuedToken, Token } from "@/api/types";
import { Confirm } from "@/components/Confirm";
import { CopyBlock } from "@/components/CopyBlock";
import { type Columns, DataTable } from "@/components/DataTable";
import { Form, useForm } from "@/components/Form";
import { ListFilters } from "@/components/ListFilters";
import { Listed, listQuery, useListAddress } from "@/components/listing";
import { Page } from "@/components/Page";
import { Section } from "@/components/Section";
import { dateTime } from "@/lib/format";
import { useWorkspace } from "@/session/session";
import { Audit } from "./Audit";
import { Limits } from "./Limits";
import { Members } from "./Members";
import { PasswordForm } from "./PasswordForm";

export function Component() {
  const { t } = useTranslation();
  const { isOwner } = useWorkspace();
  const [params, setParams] = useSearchParams();
  const tabs = ["tokens", "members", ...(isOwner ? (["audit"] as const) : []), "limits"] as const;
  const tab = tabs.find((name) => name === params.get("tab")) ?? "tokens";
  return (
    <Page title={t("settings.title")}>
      {/* Another part begins on its first page, without the filters of the former one. */}
      <Tabs
        value={tab}
        onChange={(name) => setParams(name && name !== "tokens" ? { tab: name } : {})}
        keepMounted={false}
      >
        <Tabs.List aria-label={t("settings.sections")}>
          {tabs.map((name) => (
            <Tabs.Tab key={name} value={name}>
              {t(`settings.tabs.${name}`)}
            </Tabs.Tab>
          ))}
        </Tabs.List>
        {tabs.map((name) => (
          <Tabs.Panel key={name} value={name} pt="md">
            <Stack gap="lg">{PARTS[name]}</Stack>
          </Tabs.Panel>
        ))}
      </Tabs>
    </Page>
  );
}

const TOKEN_KINDS = ["user", "predict", "worker", "serve"] as const;
/** Those of which only owners make one. */
const NODE_KINDS: readonly string[] = ["worker", "serve"];
const ORDERS = ["-created_at", "name", "-last_used_at"] as const;

const PARTS = { tokens: <Tokens />, members: <Members />, audit: <Audit />, limits: <Limits /> };

/** For programs, and for oneself. */
function Tokens() {
  const { t } = useTranslation();
  const { slug } = useWorkspace();
  const [issued, setIssued] = useState<IssuedToken | null>(null);
  const address = useListAddress();
  const asked = { usable_in: slug, ...listQuery(address, { kind: TOKEN_KINDS }, ORDERS) };
  const tokens = api.useQuery(
    "get",
    "/api/v1/tokens",
    { params: { query: asked } },
    { placeholderData: keepPreviousData },
  );
  const columns: Columns<Token> = [
    { name: t("settings.name"), className: "breakable", cell: ({ name }) => name },
    { name: t("settings.kind"), cell: ({ kind }) => t(`settings.kinds.${kind}`) },
    { name: t("settings.prefix"), className: "mono", cell: ({ prefix }) => `${prefix}…` },
    {
      name: t("settings.role"),
      cell: ({ kind, role }) => (kind === "user" ? t(`settings.roles.${role}`) : "–"),
    },
    {
      name: t("settings.used"),
      className: "nowrap",
      cell: ({ last_used_at }) => (last_used_at ? dateTime(last_used_at) : t("settings.never")),
    },
    { name: "", className: "number", cell: (token) => <Revoke token={token} /> },
  ];
  return (
    <>
      <Section title={t("settings.tokens")} note={t("settings.tokensNote")}>
        <NewToken onIssued={setIssued} />
        {issued && (
          <Alert
            color="yellow"
            title={t("settings.once")}
            onClose={() => setIssued(null)}
            withCloseButton
            closeButtonLabel={t("common.close")}
          >
            <CopyBlock label={t("settings.secret", { name: issued.name })} text={issued.token} />
          </Alert>
        )}
        <ListFilters
          address={address}
          choices={[
            {
              name: "kind",
              label: t("settings.kind"),
              any: t("settings.anyKind"),
              options: TOKEN_KINDS.map((value) => ({ value, label: t(`settings.kinds.${value}`) })),
            },
          ]}
          orders={ORDERS}
        />
        <Listed
          address={address}
          query={tokens}
          filtered={Boolean(asked.kind || asked.search)}
          none={{ title: t("settings.none"), text: t("settings.noneText") }}
        >
          {(rows) => (
            <DataTable
              label={t("settings.tokens")}
              rows={rows}
              columns={columns}
              keyOf={({ id }) => id}
              minWidth={620}
            />
          )}
        </Listed>
      </Section>
      <PasswordForm />
    </>
  );
}

function NewToken({ onIssued }: { onIssued: (token: IssuedToken) => void }) {
  const { t } = useTranslation();
  const { slug, isOwner, canEdit } = useWorkspace();
  const create = api.useMutation("post", "/api/v1/tokens", {
    onSuccess: () => reload("/api/v1/tokens"),
  });
  const { values, text, choice, clear } = useForm<{
    name: string;
    kind: (typeof TOKEN_KINDS)[number];
    role: Token["role"];
  }>({ name: "", kind: "user", role: "viewer" }, create.error);
  const { name, kind, role } = values;
  const submit = () =>
    create.mutate(
      { body: { name, kind, workspace: slug, ...(kind === "user" ? { role } : {}) } },
      {
        onSuccess: (token) => {
          onIssued(token);
          clear("name");
        },
      },
    );
  const roles = (["viewer", "editor", "owner"] as const).slice(0, isOwner ? 3 : canEdit ? 2 : 1);
  return (
    <Form
      label={t("settings.create")}
      onSubmit={submit}
      request={create}
      inline
      note={
        <Text size="sm" c="dimmed">
          {t(`settings.kindNotes.${kind}`)}
        </Text>
      }
    >
      <TextInput label={t("settings.name")} maxLength={100} {...text("name")} />
      <Select
        label={t("settings.kind")}
        data={TOKEN_KINDS.filter((value) => isOwner || !NODE_KINDS.includes(value)).map((value) => ({
          value,
          label: t(`settings.kinds.${value}`),
        }))}
        {...choice("kind")}
      />
      {kind === "user" && (
        <Select
          label={t("settings.role")}
          data={roles.map((value) => ({ value, label: t(`settings.roles.${value}`) }))}
          {...choice("role")}
        />
      )}
    </Form>
  );
}

function Revoke({ token: { id, name } }: { token: Token }) {
  const { t } = useTranslation();
  const revoke = api.useMutation("delete", "/api/v1/tokens/{token_id}", { onSuccess: () => reload("/api/v1/tokens") });
  return (
    <Confirm
      label={t("settings.revoke")}
      question={t("settings.revokeQuestion", { name })}
      act={() => revoke.mutateAsync({ params: { path: { token_id: id } } })}
      busy={revoke.isPending}
      error={revoke.error}
      size="compact-sm"
    />
  );
}

import { Select, Text, TextInput } from "@mantine/core";
import { keepPreviousData } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { api, reload } from "@/api/client";
import type { Member } from "@/api/types";
import { Confirm } from "@/components/Confirm";
import { type Columns, DataTable } from "@/components/DataTable";
import { ErrorNote } from "@/components/ErrorNote";
import { Form, useForm } from "@/components/Form";
import { ListFilters } from "@/components/ListFilters";
import { Listed, listQuery, useListAddress } from "@/components/listing";
import { Section } from "@/components/Section";
import { dateTime } from "@/lib/format";
import { useMe, useWorkspace } from "@/session/session";
import { NewAccount } from "./NewAccount";

const ROLES = ["viewer", "editor", "owner"] as const;
type Role = (typeof ROLES)[number];
const ORDERS = ["user__username", "-created_at", "created_at"] as const;

/** Who is in the workspace, and what they may do; owners change it. */
export function Members() {
  const { t } = useTranslation();
  const { slug, isOwner } = useWorkspace();
  const { me } = useMe();
  const address = useListAddress();
  const asked = listQuery(address, { role: ROLES }, ORDERS);
  const query = api.useQuery(
    "get",
    "/api/v1/workspaces/{slug}/members",
    { params: { path: { slug }, query: asked } },
    { placeholderData: keepPreviousData },
  );
  const options = useRoleOptions();
  const columns: Columns<Member> = [
    { name: t("accounts.username"), className: "breakable", cell: ({ username }) => username },
    {
      name: t("members.role"),
      cell: (member) => (isOwner ? <ChangeRole member={member} /> : t(`members.roles.${member.role}`)),
    },
    { name: t("members.since"), className: "nowrap", cell: ({ created_at }) => dateTime(created_at) },
    {
      name: "",
      className: "number",
      cell: ({ username }) => {
        const mine = username === me?.user?.username;
        return (isOwner || mine) && <Remove username={username} mine={mine} />;
      },
    },
  ];
  return (
    <>
      <Section title={t("members.title")} note={t("members.note")}>
        {isOwner && <AddMember />}
        <ListFilters
          address={address}
          choices={[{ name: "role", label: t("members.roleShown"), any: t("members.anyRole"), options }]}
          orders={ORDERS}
        />
        <Listed address={address} query={query} filtered>
          {(rows) => (
            <DataTable
              label={t("members.title")}
              rows={rows}
              columns={columns}
              keyOf={({ username }) => username}
              minWidth={520}
            />
          )}
        </Listed>
      </Section>
      {me?.user?.is_superuser && <NewAccount />}
    </>
  );
}

function useRoleOptions() {
  const { t } = useTranslation();
  return ROLES.map((value) => ({ value, label: t(`members.roles.${value}`) }));
}

function AddMember() {
  const { t } = useTranslation();
  const { slug } = useWorkspace();
  const options = useRoleOptions();
  const add = api.useMutation("post", "/api/v1/workspaces/{slug}/members", {
    onSuccess: () => reload("/api/v1/workspaces"),
  });
  const { values, text, choice, clear } = useForm<{ username: string; role: Role }>(
    { username: "", role: "editor" },
    add.error,
  );
  return (
    <Form
      label={t("members.add")}
      onSubmit={() => add.mutate({ params: { path: { slug } }, body: values }, { onSuccess: () => clear("username") })}
      request={add}
      inline
      note={
        <Text size="sm" c="dimmed">
          {t(`members.may.${values.role}`)}
        </Text>
      }
    >
      <TextInput label={t("members.newName")} autoComplete="off" {...text("username")} />
      <Select label={t("members.role")} data={options} {...choice("role")} />
    </Form>
  );
}

const AFTER = { onSuccess: () => reload("/api/v1/workspaces", "/api/v1/me") };

function ChangeRole({ member: { username, role } }: { member: Member }) {
  const { t } = useTranslation();
  const { slug } = useWorkspace();
  const options = useRoleOptions();
  const change = api.useMutation("patch", "/api/v1/workspaces/{slug}/members/{username}", AFTER);
  return (
    <>
      <Select
        aria-label={t("members.roleOf", { name: username })}
        size="xs"
        data={options}
        value={role}
        onChange={(next) => change.mutate({ params: { path: { slug, username } }, body: { role: next as Role } })}
        allowDeselect={false}
        disabled={change.isPending}
        w={140}
      />
      {change.error && <ErrorNote error={change.error} />}
    </>
  );
}

function Remove({ username, mine }: { username: string; mine: boolean }) {
  const { t } = useTranslation();
  const { slug } = useWorkspace();
  const remove = api.useMutation("delete", "/api/v1/workspaces/{slug}/members/{username}", AFTER);
  return (
    <Confirm
      label={mine ? t("members.leave") : t("members.remove")}
      question={mine ? t("members.leaveQuestion", { slug }) : t("members.removeQuestion", { name: username, slug })}
      act={() => remove.mutateAsync({ params: { path: { slug, username } } })}
      busy={remove.isPending}
      error={remove.error}
      size="compact-sm"
    />
  );
}

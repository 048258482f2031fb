"""Every problem that a client can be told of: one registry of codes, one form (RFC 9457).

Does: gives each code one status and one title in English and Chinese, and writes problem
documents. Refuses to invent text at run time: a foreign exception's words never reach a client,
and a code that the registry lacks is a programming mistake.

    {"type": "/problems/digest_mismatch", "code": "digest_mismatch", "status": 422,
     "title": "The bytes are not those that were named",
     "title_zh": "内容与所声明的摘要不符", "detail": "…", "instance": "urn:uuid:…",
     "errors": [{"pointer": "/body/content", "detail": "…"}]}

Source: RFC 9457; RFC 6901 for pointers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from evidence.errors import EvidenceError
from service.law.refusals import Refusal
from storage.errors import StorageError

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemKind:
    """One line of the registry.

    Attributes:
        code: stable, lowercase; the last part of `type`.
        status: the HTTP status that it is answered with.
        title: the same for every occurrence, English.
        title_zh: the same in Chinese.
    """

    code: str
    status: int
    title: str
    title_zh: str


class Problem(Exception):  # RFC 9457's own word for it
    """A problem that the HTTP edge itself found; the layers below have errors of their own."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        retry_after_s: int | None = None,
        errors: tuple[dict[str, str], ...] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Name the problem.

        Args:
            code: a code of the registry.
            detail: one plain sentence about this occurrence, without the client's text.
            retry_after_s: whole seconds after which the same request may succeed.
            errors: `{"pointer", "detail"}` for each fault in the request's document, or
                `{"parameter", "detail"}` for one in its query.
            headers: what the status demands of the answer, lowercase names.
        """
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.errors = errors
        self.headers = headers or {}


# One line a code: status, title, 中文. Grouped by whose fault it is.
_LINES: tuple[tuple[str, int, str, str], ...] = (
    # the request as such
    ("bad_request", 400, "The request cannot be read", "请求无法读取"),
    ("unauthenticated", 401, "A valid bearer token is needed", "需要有效的访问令牌"),
    ("not_found", 404, "There is nothing here", "此处没有内容"),
    ("method_not_allowed", 405, "This address does not take that method", "该地址不支持此方法"),
    ("request_timeout", 408, "The request did not arrive in time", "请求未能及时送达"),
    ("conflict", 409, "The request does not fit the present state", "请求与当前状态冲突"),
    ("precondition_failed", 412, "The content has not the tag that was asked for", "内容标识不符"),
    ("too_much", 413, "The request's body is too large", "请求体过大"),
    ("media_type_refused", 415, "The body's media type is not taken here", "不接受该媒体类型"),
    ("range_refused", 416, "The range lies outside the content", "请求范围超出内容"),
    ("invalid", 422, "The request's document breaks its schema", "请求内容不符合规定格式"),
    ("internal", 500, "The server made a mistake", "服务器内部错误"),
    ("busy", 503, "The server has too much to do", "服务器繁忙"),
    # captures and their content
    ("capture_unknown", 404, "No such capture", "没有此取证件"),
    ("content_unknown", 404, "No content has arrived for this capture", "该取证件的内容尚未送达"),
    ("disposed", 410, "The content was disposed of by authority", "内容已依法处置"),
    ("content_pending", 409, "The content is being put into the store", "内容正在入库"),
    ("export_unknown", 404, "No such export", "没有此导出"),
    ("log_unknown", 404, "No such log", "没有此日志"),
    ("content_too_large", 413, "More bytes than were announced", "内容超出所声明的大小"),
    ("content_truncated", 422, "Fewer bytes than were announced", "内容少于所声明的大小"),
    ("upload_in_progress", 409, "The same content is being sent already", "同一内容正在上传"),
    ("preview_unavailable", 409, "No preview can be made", "无法生成预览"),
    ("proof_pending", 409, "No witness has cosigned far enough yet", "见证签名尚未到达"),
    ("bundle_pending", 409, "The time-stamp has not arrived yet", "时间戳尚未到达"),
    ("export_pending", 409, "The package is being made", "证据包正在生成"),
    ("export_failed", 409, "The package could not be made", "证据包生成失败"),
    # evidence.errors: the bytes are wrong
    ("evidence_error", 422, "The evidence is wrong", "证据有误"),
    ("format_invalid", 422, "The bytes do not have the demanded form", "格式不符"),
    ("too_large", 422, "A limit of the format was passed", "超出格式限制"),
    ("not_canonical", 422, "Not in canonical form", "不是规范化形式"),
    ("duplicate_key", 422, "An object names a member twice", "成员重复"),
    ("number_refused", 422, "Only integers within ±(2^53−1) are taken", "只接受±(2^53−1)内的整数"),
    ("text_refused", 422, "The text holds refused characters", "文本含有不允许的字符"),
    ("statement_invalid", 422, "Not a statement", "不是有效的声明"),
    ("field_unknown", 422, "A member that the schema does not name", "出现未定义的成员"),
    ("field_missing", 422, "A member is missing", "缺少成员"),
    ("field_invalid", 422, "A member's value is outside its schema", "成员取值不符"),
    ("kind_unknown", 422, "No such kind of statement", "未知的声明种类"),
    ("version_unknown", 422, "A later format version", "格式版本高于本系统"),
    ("leaf_invalid", 422, "Not a log entry of ours", "不是有效的日志条目"),
    ("key_invalid", 422, "Not a key of the demanded form", "密钥格式不符"),
    ("note_invalid", 422, "Not a signed note", "不是有效的签名记录"),
    ("checkpoint_invalid", 422, "Not a checkpoint of this log", "不是本日志的检查点"),
    ("tile_invalid", 422, "Not a tile of this log", "不是有效的日志切片"),
    ("proof_file_invalid", 422, "Not a proof file", "不是有效的证明文件"),
    ("policy_invalid", 422, "Not a witness policy", "不是有效的见证规则"),
    ("known_keys_invalid", 422, "Not a known-keys file", "不是有效的公钥清单"),
    ("package_invalid", 422, "Not a package, or a hostile one", "不是有效的证据包"),
    ("media_invalid", 422, "The media container cannot be read", "媒体文件无法解析"),
    ("digest_mismatch", 422, "The bytes are not those that were named", "内容与所声明的摘要不符"),
    ("signature_invalid", 422, "The signature does not hold", "签名无效"),
    ("proof_invalid", 422, "The proof does not hold", "证明无效"),
    ("timestamp_invalid", 422, "The time-stamp does not hold", "时间戳无效"),
    ("timestamp_not_believed", 422, "No known authority stands behind it", "时间戳机构不受信任"),
    ("key_unknown", 403, "No registrar enrolled this key", "密钥未经登记"),
    ("key_not_yet_valid", 403, "The key was not enrolled yet", "密钥尚未生效"),
    ("key_revoked", 403, "The key was revoked", "密钥已被吊销"),
    ("key_suspected", 403, "The key is suspected of misuse", "密钥涉嫌被冒用"),
    ("key_role_refused", 403, "The key may not sign this", "该密钥无权签署此类声明"),
    ("key_chain_broken", 422, "The registrar's chain has a gap", "登记链不连续"),
    ("quorum_missing", 409, "Too few witnesses have cosigned", "见证签名数量不足"),
    ("two_histories", 422, "The log has signed two histories", "日志签署了两份历史"),
    # service.law: the rules say no
    ("refusal", 403, "The rules say no", "规则不允许"),
    ("not_permitted", 403, "The token lacks a scope", "令牌缺少权限"),
    ("organ_refused", 403, "Made in another organ's name", "以其他机关名义作出"),
    ("audience_refused", 422, "Made for another deployment", "为其他部署作出"),
    ("kind_refused", 403, "This kind is not taken from outside", "不接受外部提交此类声明"),
    ("subject_mismatch", 422, "The subject does not stand where it is said to", "所指对象不符"),
    ("content_refused", 413, "The announced content is too large", "所声明的内容过大"),
    ("already_done", 409, "It has been done before", "已经完成"),
    ("not_anchored", 409, "Witnesses or authorities still owe an answer", "见证或时间戳尚未到达"),
    ("given_up", 409, "The work cannot be done", "任务无法完成"),
    ("lease_lost", 409, "Another worker took the work over", "任务已由他处接管"),
    ("retention_running", 409, "A period of retention has not ended", "保管期限未满"),
    ("period_shortened", 409, "A lock only grows", "保管期限只能延长"),
    ("on_hold", 409, "A legal hold runs", "已依法冻结"),
    ("hold_unknown", 404, "No such legal hold runs", "没有此冻结"),
    ("not_requested", 409, "Nobody requested this disposal", "没有此处置申请"),
    ("same_person", 403, "Another person must do this", "须由其他人员办理"),
    ("approvals_missing", 409, "Too few persons have approved", "批准人数不足"),
    ("disposal_begun", 409, "Disposal has begun", "处置已经开始"),
    ("clock_behind", 409, "The clock is behind the log", "时钟落后于日志"),
    # storage.errors: the store is wrong, full, locked or away
    ("storage_error", 500, "The store is wrong", "存储出错"),
    ("name_refused", 404, "A name that can never be held", "名称不合规定"),
    ("already_exists", 409, "Other bytes hold that name", "该名称已被占用"),
    ("too_long", 413, "More bytes came than were announced", "内容超出所声明的大小"),
    ("integrity_alarm", 500, "What is held is not what its name says", "存储内容与名称不符"),
    ("log_rolled_back", 503, "The log's state is behind what was signed", "日志状态落后于已签内容"),
    ("retained", 409, "A retention date or hold forbids it", "保管期限或冻结不允许"),
    ("key_destroyed", 410, "Its key was destroyed by authority", "密钥已依法销毁"),
    ("head_conflict", 503, "Another writer moved the log's head", "日志头被其他写入者移动"),
    ("unavailable", 503, "The store does not answer", "存储不可用"),
    ("leadership_lost", 503, "Another node keeps this log now", "该日志已由另一节点接管"),
    ("log_unconfirmed", 503, "The log waits for its witnesses", "日志正在等待见证方确认"),
    ("not_begun", 503, "The server still takes up what was left", "服务器正在接续未完成的工作"),
    ("log_unanswered", 503, "The log's leader has not answered", "日志主节点未及时应答"),
    ("sync_failed", 503, "The disk did not confirm", "磁盘未确认写入"),
    ("disk_reserve_reached", 507, "No room above the reserve", "剩余空间已达预留下限"),
)
REGISTRY: Mapping[str, ProblemKind] = MappingProxyType(
    {
        code: ProblemKind(code=code, status=status, title=title, title_zh=title_zh)
        for code, status, title, title_zh in _LINES
    }
)
RETRY_AFTER_S: Mapping[str, int] = MappingProxyType(
    {
        "unavailable": 5,
        "head_conflict": 5,
        "leadership_lost": 5,
        "log_unconfirmed": 5,
        "not_begun": 1,
        "log_unanswered": 1,
        "log_rolled_back": 60,
        "sync_failed": 60,
    }
)
"""How long a client should wait for the faults of a store that may pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """One problem, ready to be written.

    Attributes:
        kind: its line of the registry.
        detail: one plain sentence.
        errors: places at fault.
        retry_after_s: whole seconds, where waiting helps.
        headers: what the status demands of the answer, lowercase names.
    """

    kind: ProblemKind
    detail: str
    errors: tuple[dict[str, str], ...] = field(default=())
    retry_after_s: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def document(self, instance: str | None = None) -> dict[str, object]:
        """The RFC 9457 document; `instance` is left out where answers must repeat exactly."""
        document: dict[str, object] = {
            "type": f"/problems/{self.kind.code}",
            "code": self.kind.code,
            "status": self.kind.status,
            "title": self.kind.title,
            "title_zh": self.kind.title_zh,
            "detail": self.detail,
        }
        if self.errors:
            document["errors"] = list(self.errors)
        if instance is not None:
            document["instance"] = instance
        return document


def occurrence_of(error: EvidenceError | StorageError | Refusal | Problem) -> Occurrence:
    """Turn an error of ours into a problem.

    A store's own sentence is written for its operator, so a client gets the title instead.

    Raises:
        KeyError: the registry lacks the error's code, which is a mistake in this program.
    """
    kind = REGISTRY[error.code]
    if isinstance(error, Problem):
        return Occurrence(
            kind=kind,
            detail=error.detail,
            errors=error.errors,
            retry_after_s=error.retry_after_s,
            headers=error.headers,
        )
    if isinstance(error, StorageError):
        return Occurrence(
            kind=kind, detail=f"{kind.title}.", retry_after_s=RETRY_AFTER_S.get(error.code)
        )
    place = {"pointer": error.pointer, "detail": error.detail}
    return Occurrence(kind=kind, detail=error.detail, errors=(place,) if error.pointer else ())

"""JupyterHub for this course, as a start: copy it to the server, change the marked lines, `jupyterhub -f` this file.

Every student gets a JupyterLab of their own that starts in the students' edition, with limits on memory and processor.
Tested is that this file loads; deployment is described in JupyterHub's own documentation.
"""

c = get_config()  # noqa: F821

COURSE = (
    "/srv/transformer-course"  # change: a clone of the course that all may read, with its environment (make lab once)
)

c.JupyterHub.bind_url = "http://127.0.0.1:8000"  # behind a web server that speaks HTTPS
c.JupyterHub.authenticator_class = "pam"  # change: how your school logs people in
c.Authenticator.allowed_users = set()  # change: the class; an empty set lets nobody in
c.Authenticator.admin_users = set()  # change: teachers

c.JupyterHub.spawner_class = "systemdspawner.SystemdSpawner"  # it is what makes the limits below hold
c.SystemdSpawner.cmd = [f"{COURSE}/.venv/bin/jupyterhub-singleuser"]
c.SystemdSpawner.default_url = "/lab/tree/student/00_start_here.ipynb"
c.SystemdSpawner.mem_limit = "4G"
c.SystemdSpawner.cpu_limit = 2.0
c.SystemdSpawner.isolate_tmp = True
c.SystemdSpawner.disable_user_sudo = True
c.SystemdSpawner.environment = {"OMP_NUM_THREADS": "1"}


def bring_up_to_date(spawner):
    """Before a student's JupyterLab starts: new notebooks appear, what was written stays."""
    import pwd
    import subprocess

    home = pwd.getpwnam(spawner.user.name).pw_dir
    release = [f"{COURSE}/.venv/bin/python", "-m", "course_lib", "coursework", "release", f"{home}/student"]
    subprocess.run(["runuser", "-u", spawner.user.name, "--", *release], check=True)


c.SystemdSpawner.pre_spawn_hook = bring_up_to_date

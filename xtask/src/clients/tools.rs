//! Other people's clients: Python packages in a virtual environment, Apache Kafka's programs from Maven. All of it lies
//! under `target/clients`; nothing is installed on the machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell;

/// Where the clients are.
pub struct Tools {
    /// What is kept between runs.
    pub base: PathBuf,
    /// Scratch space of this run.
    pub work: PathBuf,
    /// Python of the virtual environment.
    pub python: PathBuf,
    /// Folder with our client programs.
    pub programs: PathBuf,
    jars: PathBuf,
}

impl Tools {
    /// Installs what is missing. The error names the toolchain that is not there.
    pub fn prepare(root: &Path) -> Result<Tools, String> {
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
        let base = target.join("clients");
        fs::create_dir_all(&base).map_err(|error| error.to_string())?;
        let programs = root.join("xtask/clients");
        for program in ["python3", "java", "mvn"] {
            if !shell::exists(program) {
                return Err(format!("`{program}` is not on this machine"));
            }
        }
        let python = base.join("venv/bin/python");
        let stamp = base.join("venv/packages");
        let packages = programs.join("families/python/requirements.txt");
        let wanted = fs::read_to_string(&packages)
            .map_err(|error| format!("{}: {error}", packages.display()))?;
        if fs::read_to_string(&stamp).unwrap_or_default() != wanted {
            shell::output(&mut shell::command(&base, "python3", &["-m", "venv", "venv"]))?;
            let mut install = shell::command(&base, &python, &["-m", "pip", "-q", "install", "-r"]);
            shell::output(install.arg(&packages))?;
            fs::write(&stamp, wanted).map_err(|error| error.to_string())?;
        }
        let jars = base.join("jars");
        if !jars.join("complete").exists() {
            let pom = programs.join("pom.xml");
            shell::output(
                shell::command(&base, "mvn", &["-q", "-B", "dependency:copy-dependencies", "-f"])
                    .arg(&pom)
                    .arg(format!("-DoutputDirectory={}", jars.display())),
            )?;
            fs::write(jars.join("complete"), "").map_err(|error| error.to_string())?;
        }
        let work = base.join(format!("work-{}", std::process::id()));
        fs::create_dir_all(&work).map_err(|error| error.to_string())?;
        Ok(Tools { base, work, python, programs, jars })
    }

    /// One of our Python client programs.
    pub fn python(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(self.programs.join(program)).args(arguments).current_dir(&self.work);
        command
    }

    /// Compiles one of our Java client programs, for [`Tools::java`] to run by the name of its class.
    pub fn compile_java(&self, program: &str) -> Result<(), String> {
        let mut command = Command::new("javac");
        command.arg("-cp").arg(format!("{}/*", self.jars.display())).arg("-d").arg(&self.work);
        shell::output(command.arg(self.programs.join(program))).map(drop)
    }

    /// A program out of Apache Kafka's jars, or a class that was compiled.
    pub fn java(&self, class: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("java");
        command
            .args(["-Xmx512m", "-XX:TieredStopAtLevel=4", "-Dlog4j2.level=ERROR", "-cp"])
            .arg(format!("{}/*:{}", self.jars.display(), self.work.display()))
            .arg(class)
            .args(arguments)
            .current_dir(&self.work);
        command
    }
}

impl Drop for Tools {
    fn drop(&mut self) {
        // Left for a look when a check failed and the caller asked to keep it.
        if std::env::var_os("FORETOLD_KEEP").is_none() {
            let _ = fs::remove_dir_all(&self.work);
        }
    }
}
